import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ERAS, readAnswer, request, requestInit, type Answer } from "../../runtime/test/client.ts";
import { generatedSample } from "../../runtime/test/sample.ts";
import { startServer, type RunningServer } from "../../runtime/test/workerd.ts";

const folder = join(process.cwd(), "parallelisation");
const durableObjects = { METAMCP_SESSIONS: "McpSession", METAMCP_SESSION_DIRECTORY: "McpSessionDirectory" };
const generated = { ...(await generatedSample(folder)), durableObjects };
let server: RunningServer;

before(async () => void (server = await startServer(join(folder, "src", "index.ts"), generated)));
after(() => server?.stop());

const call = (name: string, parameters: object = {}, era = ERAS[1]!): Promise<Answer> =>
  request(server.url, era, "tools/call", { name, arguments: parameters });
const outcome = async (name: string, parameters: object) => (await call(name, parameters)).result.structuredContent;
const counts = (): Promise<{ begun: number; ended: number }> => outcome("counts", {});
const reasons = (results: { reason?: string }[]) => results.map(({ reason }) => reason);

describe("map", () => {
  for (const era of ERAS) {
    test(`calls a tool for each input and keeps failures apart, in ${era}`, async () => {
      const inputs = [{ n: 1 }, { n: -2 }, { n: "three" }, { n: 4 }];
      const { result } = await call("map", { tool: "square", inputs }, era);
      const { succeeded, failed, results } = result.structuredContent;
      assert.deepEqual([succeeded, failed], [2, 2]);
      assert.deepEqual(results[0], { index: 0, tool: "square", ok: true, value: { squared: 1 } });
      assert.deepEqual(results[1], { index: 1, tool: "square", ok: false, reason: "threw", error: "-2 is negative (line 1 of the body)" });
      assert.equal(results[2].reason, "arguments");
      assert.deepEqual(results[3].value, { squared: 16 });
    });
  }

  test("takes the first result and ends the other calls", async () => {
    const earlier = await counts();
    const inputs = [{ ms: 60_000 }, { ms: 1 }, { ms: 60_000 }, { ms: 60_000 }];
    const first = await outcome("map", { tool: "after", inputs, aggregate: "first", concurrency: 2 });
    assert.deepEqual(first, { succeeded: 1, failed: 3, winner: 1, value: "after 1 ms", results: [] });
    const { begun, ended } = await counts();
    assert.deepEqual([begun - earlier.begun, ended - earlier.ended], [2, 1]);
  });

  test("passes over failures on the way to the first result", async () => {
    const first = await outcome("map", { tool: "square", inputs: [{ n: -1 }, { n: 5 }], aggregate: "first", concurrency: 1 });
    assert.deepEqual([first.winner, first.value, reasons(first.results)], [1, { squared: 25 }, ["threw"]]);
  });

  test("without any result there is nothing to choose", async () => {
    for (const aggregate of ["first", "vote"]) {
      const { result } = await call("map", { tool: "square", inputs: [{ n: -1 }, { n: -2 }], aggregate });
      assert.equal(result.isError, true);
      const { succeeded, results } = JSON.parse(result.content[0].text);
      assert.deepEqual([succeeded, reasons(results)], [0, ["threw", "threw"]]);
    }
  });

  test("lets calls wait for a tool that runs once at a time", async () => {
    const { succeeded, results } = await outcome("map", { tool: "one_by_one", inputs: Array(12).fill({}) });
    assert.equal(succeeded, 12);
    assert.deepEqual(new Set(results.map(({ value }: { value: string }) => value)), new Set(["1"]));
  });

  test("ends what runs before its own time is up, and keeps the rest", async () => {
    const definition: any = structuredClone(generated.definition);
    definition.tools.find(({ name }: { name: string }) => name === "map").limits.timeoutMs = 1000;
    const hasty = await startServer(join(folder, "src", "index.ts"), { ...generated, definition });
    try {
      const map = async (inputs: object[], aggregate: string) => {
        const parameters = { tool: "after", inputs, aggregate, concurrency: 2 };
        return (await request(hasty.url, "2026-07-28", "tools/call", { name: "map", arguments: parameters })).result;
      };
      const { succeeded, results } = (await map([{ ms: 1 }, { ms: 60_000 }, { ms: 1 }], "collect")).structuredContent;
      assert.deepEqual([succeeded, reasons(results)], [2, [undefined, "cancelled", undefined]]);
      assert.equal(results[1].error, "was ended: the time for all calls was up");
      const none = await map([{ ms: 60_000 }], "first");
      assert.deepEqual([none.isError, reasons(JSON.parse(none.content[0].text).results)], [true, ["cancelled"]]);
    } finally {
      await hasty.stop();
    }
  });

  test("reports progress for each call", async () => {
    const params = {
      name: "map",
      arguments: { tool: "square", inputs: [{ n: 1 }, { n: 2 }, { n: 3 }] },
      _meta: { progressToken: "p" },
    };
    const { messages } = await readAnswer(await fetch(`${server.url}/mcp`, requestInit("2026-07-28", "tools/call", params)));
    const progress = messages.filter(({ method }) => method === "notifications/progress").map(({ params: told }) => told);
    assert.deepEqual(progress.map(({ progress: done, total }) => [done, total]), [[1, 3], [2, 3], [3, 3]]);
  });

  test("is refused for too many inputs, for tools of the template and within itself", async () => {
    const { result } = await call("map", { tool: "square", inputs: Array(257).fill({ n: 1 }) });
    assert.match(result.content[0].text, /inputs/);
    const inputs = [{ tool: "square", inputs: [] }];
    assert.deepEqual(reasons((await outcome("map", { tool: "map", inputs })).results), ["unknown_tool"]);
    const nested = await outcome("map", { tool: "nested", inputs: [{}] });
    assert.match(nested.results[0].error, /cannot make such calls itself/);
    assert.deepEqual((await call("nested")).result.structuredContent.succeeded, 1);
  });
});

describe("fan_out", () => {
  test("calls many tools with one input", async () => {
    const { results } = await outcome("fan_out", { tools: ["square", "parity", "no_such_tool"], input: { n: 3 } });
    assert.deepEqual(
      results.map(({ tool, value, reason }: { tool: string; value?: unknown; reason?: string }) => [tool, value ?? reason]),
      [["square", { squared: 9 }], ["parity", { even: false, by: "remainder" }], ["no_such_tool", "unknown_tool"]],
    );
  });

  test("votes by value, whatever the order of its properties", async () => {
    const vote = await outcome("fan_out", { tools: ["guess", "parity", "last_digit", "nobody"], input: { n: 4 }, aggregate: "vote" });
    assert.deepEqual([vote.value, vote.tied], [{ even: true, by: "remainder" }, false]);
    assert.deepEqual(
      vote.votes.map(({ count, indexes }: { count: number; indexes: number[] }) => [count, indexes]),
      [[2, [1, 2]], [1, [0]]],
    );
    assert.deepEqual(reasons(vote.results), ["unknown_tool"]);
  });

  test("says that a vote is tied", async () => {
    const vote = await outcome("fan_out", { tools: ["guess", "parity"], input: { n: 4 }, aggregate: "vote" });
    assert.deepEqual([vote.tied, "value" in vote, vote.votes.length], [true, false, 2]);
  });
});

test("a client that cancels ends what runs, and nothing more begins", { timeout: 60_000 }, async () => {
  const earlier = await counts();
  const unread = new AbortController();
  const inSession = (session: string, method: string, params: object, id?: number) => {
    const { headers, body, ...init } = requestInit("2025-11-25", method, params as Record<string, unknown>);
    const message = JSON.stringify({ ...JSON.parse(String(body)), id });
    const own = { ...headers, ...(session && { "mcp-session-id": session }) };
    return fetch(`${server.url}/mcp`, { ...init, body: message, headers: own, signal: unread.signal });
  };
  const until = async (reached: (now: { begun: number; ended: number }) => boolean) => {
    for (;;) {
      const { begun, ended } = await counts();
      const now = { begun: begun - earlier.begun, ended: ended - earlier.ended };
      if (reached(now)) return now;
    }
  };

  const clientInfo = { name: "spec", version: "1.0.0" };
  const opened = await inSession("", "initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo }, 1);
  await opened.text();
  const session = opened.headers.get("mcp-session-id")!;

  const inputs = Array(6).fill({ ms: 60_000 });
  const params = { name: "map", arguments: { tool: "after", inputs, concurrency: 2 } };
  // Whoever cancels waits for no answer, and gets none.
  inSession(session, "tools/call", params, 7).catch(() => {});
  await until(({ begun }) => begun === 2);
  const told = await inSession(session, "notifications/cancelled", { requestId: 7 });
  assert.equal(told.status, 202);
  assert.deepEqual(await until(({ ended }) => ended === 2), { begun: 2, ended: 2 });
  unread.abort();
  const headers = { "mcp-session-id": session, "mcp-protocol-version": "2025-11-25" };
  await fetch(`${server.url}/mcp`, { method: "DELETE", headers });
});
