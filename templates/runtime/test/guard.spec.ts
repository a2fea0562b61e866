import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { request } from "./client.ts";
import { generateServer } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const entry = join(process.cwd(), "remote-mcp-authless", "src", "index.ts");
const PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}';

/** `fetch` lets nobody set a Host. */
function post(server: RunningServer, headers: Record<string, string>): Promise<{ status: number; challenge: string | undefined }> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(`${server.url}/mcp`, { method: "POST", headers: { "content-type": "application/json", ...headers } }, (response) => {
      response.resume();
      response.once("end", () => resolve({ status: response.statusCode ?? 0, challenge: response.headers["www-authenticate"] }));
    });
    sent.once("error", reject);
    sent.end(PING);
  });
}

describe("with a list of hosts", () => {
  let server: RunningServer;
  before(async () => {
    const environment = { METAMCP_HOSTS: '["localhost","[::1]","metamcp.internal"]' };
    server = await startServer(entry, generateServer({ environment }));
  });
  after(() => server?.stop());

  for (const [host, origin, status] of [
    ["localhost", undefined, 200],
    ["LOCALHOST:8080", undefined, 200],
    ["[::1]:8080", undefined, 200],
    ["metamcp.internal", "http://localhost:3000", 200],
    ["127.0.0.1", undefined, 403],
    ["evil.example", undefined, 403],
    ["localhost.evil.example", undefined, 403],
    ["localhost", "https://evil.example", 403],
    ["localhost", "null", 403],
    ["localhost", "https://localhost.evil.example", 403],
  ] as const) {
    test(`host ${host} and origin ${origin} get ${status}`, async () => {
      assert.equal((await post(server, { host, ...(origin && { origin }) })).status, status);
    });
  }

  test("health answers for any host", async () => {
    assert.equal((await fetch(`${server.url}/health`)).status, 200);
  });
});

describe("with the name of its version", () => {
  let server: RunningServer;
  before(async () => {
    const tools = [{ name: "seen", body: "return JSON.stringify(Object.keys(env));" }];
    server = await startServer(entry, generateServer({ tools, vars: { METAMCP_VERSION: "v2", UNITS: "metric" } }));
  });
  after(() => server?.stop());

  test("health tells it", async () => {
    assert.deepEqual(await (await fetch(`${server.url}/health`)).json(), { status: "ok", version: "v2" });
  });

  test("bodies do not see it, whatever a definition declares", async () => {
    const { result } = await request(server.url, "2025-11-25", "tools/call", { name: "seen", arguments: {} });
    assert.equal(result.content[0].text, '["UNITS"]');
  });
});

describe("with a list of hosts that cannot be read", () => {
  let server: RunningServer;
  before(async () => {
    server = await startServer(entry, generateServer({ environment: { METAMCP_HOSTS: "localhost" } }));
  });
  after(() => server?.stop());

  test("no host is allowed", async () => {
    assert.equal((await post(server, { host: "localhost" })).status, 403);
  });
});

describe("with a bearer token", () => {
  let server: RunningServer;
  before(async () => {
    server = await startServer(entry, generateServer({ auth: { bearer: { secret: "TOKEN" } }, environment: { TOKEN: "s3cret" } }));
  });
  after(() => server?.stop());

  test("the token opens the server", async () => {
    assert.equal((await post(server, { authorization: "Bearer s3cret" })).status, 200);
    assert.equal((await post(server, { authorization: "bearer s3cret" })).status, 200);
  });

  for (const authorization of ["Bearer s3cre", "Bearer s3cret2", "Bearer ", "Basic s3cret", "s3cret"]) {
    test(`${JSON.stringify(authorization)} does not`, async () => {
      const { status, challenge } = await post(server, { authorization });
      assert.equal(status, 401);
      assert.match(challenge ?? "", /^Bearer/);
    });
  }

  test("no token does not", async () => {
    assert.equal((await post(server, {})).status, 401);
  });
});

describe("with a key of the publisher's", () => {
  let server: RunningServer;
  before(async () => {
    const environment = { TOKEN: "s3cret", METAMCP_CHECK_KEY: "check" };
    server = await startServer(entry, generateServer({ auth: { bearer: { secret: "TOKEN" } }, environment }));
  });
  after(() => server?.stop());

  test("either opens the server, and nothing else", async () => {
    for (const token of ["s3cret", "check"]) {
      assert.equal((await post(server, { authorization: `Bearer ${token}` })).status, 200);
    }
    for (const token of ["s3cretcheck", "undefined"]) {
      assert.equal((await post(server, { authorization: `Bearer ${token}` })).status, 401);
    }
  });
});

describe("with a bearer token that is not set", () => {
  let server: RunningServer;
  before(async () => {
    const environment = { METAMCP_CHECK_KEY: "check" };
    server = await startServer(entry, generateServer({ auth: { bearer: { secret: "TOKEN" } }, environment }));
  });
  after(() => server?.stop());

  test("the server is closed", async () => {
    assert.equal((await post(server, { authorization: "Bearer undefined" })).status, 503);
    assert.equal((await post(server, { authorization: "Bearer check" })).status, 503);
    assert.equal((await post(server, {})).status, 503);
  });
});
