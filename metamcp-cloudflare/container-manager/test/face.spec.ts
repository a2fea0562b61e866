import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { KEY, Manager } from "./manager.ts";

let manager: Manager;
before(async () => {
  manager = await Manager.start();
});
afterEach(() => manager.clear());
after(() => manager.stop());

test("without the key nothing is answered", async () => {
  for (const key of [null, "", "wrong", `${KEY}x`, KEY.slice(1)]) {
    for (const path of ["health", `jobs/${crypto.randomUUID()}`, "anything"]) {
      const { status, body } = await manager.call("GET", path, undefined, key);
      assert.deepEqual([status, body.error.kind], [401, "unauthenticated"]);
    }
  }
});

test("a manager without a configured key refuses everybody", async () => {
  for (const configured of [null, ""]) {
    const open = await Manager.start({ key: configured });
    try {
      for (const key of [null, KEY, "undefined"]) {
        const { status, body } = await open.call("GET", "health", undefined, key);
        assert.equal(status, 401);
        assert.match(body.error.help, /secret put/);
      }
    } finally {
      await open.stop();
    }
  }
});

test("a bad job is answered with all of its problems", async () => {
  const job = { kind: "build", dependencies: { "../x": "", ok: 1 }, imports: ["-e", "/etc", "a/../b"] };
  const { status, body } = await manager.call("PUT", `jobs/${crypto.randomUUID()}`, job);
  assert.equal(status, 400);
  for (const word of ["../x", '"ok"', "/etc", "a/../b"]) assert.ok(body.error.message.includes(word), body.error.message);
  const command = { kind: "exec", environment: "no", line: "a\0", timeoutMs: 0, env: { "A=B": "1" } };
  const refused = await manager.call("PUT", `jobs/${crypto.randomUUID()}`, command);
  for (const word of ["line", "timeoutMs", "environment", "A=B"]) assert.ok(refused.body.error.message.includes(word));
  assert.equal((await manager.call("PUT", "jobs/Short!", { kind: "environment" })).status, 400);
});

test("paths outside of the workspace are refused", async () => {
  const id = crypto.randomUUID();
  await manager.environment(id);
  for (const path of ["..%2Fup", "a/..%2F..%2Fb", "%2Fetc%2Fpasswd", "a//b", "a%00b"]) {
    for (const method of ["GET", "PUT", "DELETE"]) {
      const body = method === "PUT" ? new Uint8Array(1) : undefined;
      const answer = await manager.call(method, `environments/${id}/files/${path}`, body);
      assert.deepEqual([path, answer.status], [path, 403]);
    }
  }
  const outside = { kind: "exec", environment: id, line: "pwd", cwd: "../..", timeoutMs: 1000 };
  assert.equal((await manager.call("PUT", `jobs/${crypto.randomUUID()}`, outside)).status, 403);
});

test("bodies are bounded", async () => {
  const id = crypto.randomUUID();
  await manager.environment(id);
  const large = new Uint8Array(16 * 1024 * 1024 + 1);
  assert.equal((await manager.call("PUT", `environments/${id}/files/large`, large)).status, 413);
  const job = { kind: "environment", more: "x".repeat(300_000) };
  assert.equal((await manager.call("PUT", `jobs/${crypto.randomUUID()}`, job)).status, 413);
});

test("other Workers use the same environments by RPC", async () => {
  const { success, containerId } = await manager.rpc("createSDKEnvironment", "1", "weather");
  assert.equal(success, true);
  assert.deepEqual(await manager.rpc("writeFile", containerId, "src/a.txt", "grüße"), { success: true });
  assert.equal((await manager.rpc("readFile", containerId, "src/a.txt")).content, "grüße");
  assert.deepEqual((await manager.rpc("listFiles", containerId)).files, ["src/"]);
  const ran = await manager.rpc("executeInContainer", containerId, "cat src/a.txt; exit 3");
  assert.deepEqual(ran, { success: false, output: "grüße", exitCode: 3 });
  assert.equal((await manager.rpc("readFile", containerId, "../up")).error.kind, "permission_denied");
  // As a part of a URL it would lead to the environment itself.
  assert.equal((await manager.rpc("deleteFile", containerId, "..")).error?.kind, "permission_denied");
  assert.deepEqual((await manager.rpc("listFiles", containerId, ".")).files, ["src/"]);
  assert.deepEqual(await manager.rpc("deleteFile", containerId, "src"), { success: true });
  assert.deepEqual(await manager.rpc("destroyEnvironment", containerId), { success: true });
  assert.equal((await manager.rpc("executeInContainer", containerId, "true")).error.kind, "not_found");
});

test("what cannot be done honestly is refused with a reason", async () => {
  for (const method of ["addToolToServer", "addResourceToServer", "addPromptToServer"]) {
    const { success, error } = await manager.rpc(method, "any", {});
    assert.deepEqual([success, error.kind], [false, "unsupported"]);
    assert.match(error.help, /Meta-MCP/);
  }
  const unknown = await manager.rpc("createSDKEnvironment", "1", "weather", "no-such-template");
  assert.deepEqual([unknown.success, unknown.error.kind], [false, "config_invalid"]);
});
