import assert from "node:assert/strict";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { requestInit } from "./client.ts";
import { generateServer } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const entry = join(process.cwd(), "runtime", "test", "session-entry.ts");
const durableObjects = { METAMCP_SESSIONS: "McpSession", METAMCP_SESSION_DIRECTORY: "McpSessionDirectory" };

let server: RunningServer | undefined;
beforeEach(async () => {
  await server?.stop();
  server = await startServer(entry, { ...generateServer({}), durableObjects });
});
after(() => server?.stop());

async function initialize(): Promise<Response> {
  const clientInfo = { name: "spec", version: "1.0.0" };
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo };
  const response = await fetch(`${server!.url}/mcp`, requestInit("2025-11-25", "initialize", params));
  await response.text();
  return response;
}

async function open(): Promise<string> {
  const response = await initialize();
  assert.equal(response.status, 200);
  return response.headers.get("mcp-session-id")!;
}

async function statusOf(id: string): Promise<number> {
  const { headers, ...init } = requestInit("2025-11-25", "ping", {});
  const response = await fetch(`${server!.url}/mcp`, { ...init, headers: { ...headers, "mcp-session-id": id } });
  await response.text();
  return response.status;
}

async function onObject(kind: "session" | "directory", id: string, method: string, ...parameters: unknown[]): Promise<void> {
  const body = JSON.stringify({ id, method, parameters });
  assert.equal((await fetch(`${server!.url}/${kind}`, { method: "POST", body })).status, 200);
}

test("a session ends a day after its last use, and not before", async () => {
  const id = await open();
  await onObject("session", id, "ring");
  assert.equal(await statusOf(id), 200);
  const day = 24 * 60 * 60 * 1000;
  await onObject("session", id, "ring", Date.now() - day + 60_000);
  assert.equal(await statusOf(id), 200);
  await onObject("session", id, "ring", Date.now() - day);
  assert.equal(await statusOf(id), 404);
});

test("a full server that is busy takes no new session", async () => {
  await onObject("directory", "", "fill", 1000, Date.now());
  const refused = await initialize();
  assert.deepEqual([refused.status, refused.headers.get("retry-after")], [503, "60"]);
  assert.equal(refused.headers.get("mcp-session-id"), null);
});

test("a full server makes room by the session that was used longest ago", async () => {
  const [old, recent] = [await open(), await open()];
  await onObject("directory", "", "fill", 998, Date.now());
  await onObject("directory", "", "age", old, Date.now() - 60 * 60 * 1000);
  const opened = await open();
  assert.deepEqual([await statusOf(old), await statusOf(recent), await statusOf(opened)], [404, 200, 200]);
  assert.equal((await initialize()).status, 503);
});
