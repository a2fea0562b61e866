import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Manager } from "./manager.ts";

let manager: Manager;
before(async () => {
  manager = await Manager.start();
});
afterEach(() => manager.clear());
after(() => manager.stop());

const uuid = () => crypto.randomUUID();

test("a command runs in an environment, and its files are there", async () => {
  const id = uuid();
  await manager.environment(id);
  const bytes = new Uint8Array([0, 255, 10, 128]);
  assert.equal((await manager.call("PUT", `environments/${id}/files/a%20b/c.bin`, bytes)).status, 204);
  assert.deepEqual((await manager.call("GET", `environments/${id}/files/a%20b/c.bin`)).body, bytes);
  assert.deepEqual((await manager.call("GET", `environments/${id}/list/`)).body, ["a b/"]);
  const ran = await manager.exec(id, "wc -c <'a b/c.bin' && echo oops >&2; exit 7");
  assert.equal(ran.state, "done");
  assert.deepEqual([ran.result.stdout.trim(), ran.result.stderr, ran.result.exitCode], ["4", "oops\n", 7]);
  assert.equal((await manager.call("DELETE", `environments/${id}/files/a%20b`)).status, 204);
  assert.equal((await manager.call("GET", `environments/${id}/files/a%20b/c.bin`)).status, 404);
  assert.equal((await manager.call("GET", `environments/${id}`)).body.templates[0], "remote-mcp-authless");
  for (const _ of [1, 2]) assert.equal((await manager.call("DELETE", `environments/${id}`)).status, 204);
  assert.equal((await manager.call("GET", `environments/${id}`)).body.error.kind, "not_found");
  assert.equal(manager.bridge.count(), 0);
});

test("starting the same job again is the same job, and a dropped connection loses nothing", async () => {
  const [id, job] = [uuid(), uuid()];
  await manager.environment(id);
  const command = { kind: "exec", environment: id, line: "echo once >>log; cat log", timeoutMs: 30_000 };
  await manager.submit(job, command);
  await manager.submit(job, command);
  assert.equal((await manager.ended(job)).result.stdout, "once\n");
  assert.equal((await manager.submit(job, command)).result.stdout, "once\n");
  const other = await manager.call("PUT", `jobs/${job}`, { ...command, line: "rm log" });
  assert.deepEqual([other.status, other.body.error.kind], [409, "conflict"]);
});

test("who finds all containers in use waits in line, with a place in it", async () => {
  const inUse = [uuid(), uuid(), uuid()];
  for (const id of inUse) await manager.environment(id);
  const [fourth, fifth] = [uuid(), uuid()];
  assert.equal((await manager.submit(fourth, { kind: "environment" })).place, 1);
  assert.equal((await manager.submit(fifth, { kind: "environment" })).place, 2);
  // Commands need no place of their own.
  assert.equal((await manager.exec(inUse[0]!, "echo here")).result.stdout, "here\n");
  await manager.call("DELETE", `environments/${inUse[0]}`);
  assert.equal((await manager.ended(fourth)).state, "done");
  assert.equal((await manager.call("GET", `jobs/${fifth}`)).body.place, 1);
  await manager.call("DELETE", `jobs/${fifth}`);
  assert.equal((await manager.call("GET", `jobs/${fifth}`)).body.state, "cancelled");
  for (const id of [...inUse, fourth]) await manager.call("DELETE", `environments/${id}`);
  assert.deepEqual([manager.bridge.count(), manager.bridge.most()], [0, 3]);
});

test("a command past its time is killed with its children, and the environment goes on", async () => {
  const id = uuid();
  await manager.environment(id);
  const ran = await manager.exec(id, "echo before; sleep 1000 & sleep 1000; echo after", 3000);
  assert.deepEqual([ran.result.timedOut, ran.result.stdout], [true, "before\n"]);
  assert.equal((await manager.exec(id, "echo on")).result.stdout, "on\n");
});

test("a cancelled command ends, and one that is cancelled before it comes never runs", async () => {
  const [id, job, late] = [uuid(), uuid(), uuid()];
  await manager.environment(id);
  await manager.submit(job, { kind: "exec", environment: id, line: "sleep 1000", timeoutMs: 3_600_000 });
  assert.equal((await manager.call("DELETE", `jobs/${job}`)).body.state, "cancelled");
  // It waits until the cancelled one is gone.
  assert.equal((await manager.exec(id, "echo next")).result.stdout, "next\n");
  await manager.call("DELETE", `jobs/${late}`);
  const command = { kind: "exec", environment: id, line: "touch ran", timeoutMs: 1000 };
  assert.equal((await manager.submit(late, command)).state, "cancelled");
  assert.deepEqual((await manager.call("GET", `environments/${id}/list/`)).body, []);
});

test("output with NUL in it is a command's output like any other", async () => {
  const [id, job] = [uuid(), uuid()];
  await manager.environment(id);
  // The second line is written once the first one is in the log, so that they come one by one.
  const line = "printf '\\0first\\n'; until [ -e go ]; do sleep 0.05; done; printf '\\0second\\n'";
  await manager.submit(job, { kind: "exec", environment: id, line, timeoutMs: 30_000 });
  const begun = await manager.logs(job, "wait=25");
  assert.equal(begun.text, "\ufffdfirst\n");
  await manager.call("PUT", `environments/${id}/files/go`, new Uint8Array());
  const ended = await manager.ended(job);
  assert.equal(ended.result.stdout, "\0first\n\0second\n");
  assert.equal((await manager.logs(job, `offset=${begun.next}`)).text, "\ufffdsecond\n");
});

test("logs are read on from an offset", async () => {
  const id = uuid();
  await manager.environment(id);
  const { id: job } = await manager.exec(id, "echo first; echo grüße");
  const all = await manager.logs(job);
  assert.equal(all.text, "first\ngrüße\n");
  assert.equal((await manager.logs(job, "offset=6")).text, "grüße\n");
  assert.equal((await manager.logs(job, "offset=8")).text, "üße\n");
  assert.equal((await manager.logs(job, `offset=${all.next}`)).text, "");
});

test("output is there while the command runs, and a change of place is told at once", async () => {
  const inUse = [uuid(), uuid(), uuid()];
  for (const id of inUse) await manager.environment(id);
  const [job, waiting] = [uuid(), uuid()];
  const line = "echo begun; until [ -e go ]; do sleep 0.05; done; echo ended";
  await manager.submit(job, { kind: "exec", environment: inUse[0], line, timeoutMs: 60_000 });
  const begun = await manager.logs(job, "wait=25");
  assert.deepEqual([begun.text, begun.state], ["begun\n", "running"]);
  await manager.call("PUT", `environments/${inUse[0]}/files/go`, new Uint8Array(1));
  assert.equal((await manager.logs(job, `wait=25&offset=${begun.next}`)).text, "ended\n");

  await manager.submit(waiting, { kind: "environment" });
  const moved = manager.call("GET", `jobs/${waiting}?wait=25&place=1`);
  await manager.call("DELETE", `environments/${inUse[0]}`);
  assert.equal((await moved).body.state, "running");
  assert.equal((await manager.ended(waiting)).state, "done");
});

test("after a crash a command has failed, and the environment is still there", async () => {
  const [id, job] = [uuid(), uuid()];
  await manager.environment(id);
  await manager.submit(job, { kind: "exec", environment: id, line: "sleep 1000", timeoutMs: 3_600_000 });
  await manager.restart();
  const ended = await manager.ended(job);
  assert.deepEqual([ended.state, ended.error.kind], ["failed", "unavailable"]);
  assert.equal((await manager.exec(id, "echo on")).result.stdout, "on\n");
});

test("a sandbox that could not be destroyed keeps its place until it is", async () => {
  const id = uuid();
  await manager.environment(id);
  manager.bridge.failDestroy(1);
  assert.equal((await manager.call("DELETE", `environments/${id}`)).status, 503);
  assert.equal(manager.bridge.count(), 1);
  // Any job wakes the alarm, which tries again.
  const next = uuid();
  await manager.environment(next);
  const giveUp = Date.now() + 10_000;
  while (manager.bridge.count() > 1 && Date.now() < giveUp) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(manager.bridge.count(), 1);
  // The one that is left is the new one.
  assert.equal((await manager.exec(next, "echo here")).result.stdout, "here\n");
  await assert.rejects(manager.exec(id, "echo here"), /not_found/);
});

test("a warm container is the next environment's", async () => {
  const own = await Manager.start({ maxInstances: 1 });
  try {
    const [first, id] = [uuid(), uuid()];
    for (const job of [first, uuid()]) {
      await own.submit(job, { kind: "warm_up" });
      assert.equal((await own.ended(job)).state, "done");
    }
    assert.deepEqual([own.bridge.count(), (await own.call("GET", "health")).body.warm], [1, 1]);
    await own.environment(id);
    assert.deepEqual([own.bridge.count(), (await own.call("GET", "health")).body.warm], [1, 0]);
  } finally {
    await own.stop();
  }
});
