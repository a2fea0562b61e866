import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ERAS, readAnswer, request, requestInit, type Answer } from "../../runtime/test/client.ts";
import { generatedSample } from "../../runtime/test/sample.ts";
import { startServer, type RunningServer } from "../../runtime/test/workerd.ts";

const folder = join(process.cwd(), "tool-calling");
let server: RunningServer;

before(async () => void (server = await startServer(join(folder, "src", "index.ts"), await generatedSample(folder))));
after(() => server?.stop());

const call = (name: string, parameters: object = {}, era = ERAS[1]!): Promise<Answer> =>
  request(server.url, era, "tools/call", { name, arguments: parameters });
const text = async (name: string, parameters: object = {}) => (await call(name, parameters)).result.content[0].text;
const batch = async (calls: object[], more: object = {}) => (await call("batch", { calls, ...more })).result.structuredContent;

describe("a tool", () => {
  for (const era of ERAS) {
    test(`calls others, in ${era}`, async () => {
      const { result } = await call("quadruple", { n: 3 }, era);
      assert.equal(result.content[0].text, '{"doubled":12}');
    });
  }

  test("that may be repeated is run again after a throw, as often as it is worth it", async () => {
    assert.equal(await text("flaky", { key: "twice", failures: 2 }), "run 3 worked");
    const { result } = await call("flaky", { key: "ever", failures: 99 });
    assert.deepEqual([result.isError, result.content[0].text], [true, "run 3 failed (line 4 of the body) (tried 3 times)"]);
  });

  test("is run again after a run that took too long, within its own time", async () => {
    assert.equal(await text("slow_at_first", { key: "a" }), "quick");
  });

  test("that nobody called repeatable runs once", async () => {
    assert.match(await text("fragile", { key: "once", failures: 1 }), /^run 1 failed/);
    assert.equal(await text("fragile", { key: "once", failures: 1 }), "run 2 worked");
  });

  test("is not run again after a result that its schema does not allow", async () => {
    assert.match(await text("count"), /^Output validation error/);
    const [{ error }] = (await batch([{ tool: "count" }])).results;
    assert.match(error, /Output validation error/);
    // Each of the two calls above was one run.
    assert.equal(await text("runs_of_count"), "2");
  });

  test("is not run again for an error that is its answer, nor after bad arguments", async () => {
    assert.equal(await text("refuse"), "no, for the 1. time");
    const { result } = await call("flaky", { key: 1 });
    assert.match(result.content[0].text, /Invalid arguments/);
  });

  test("that asked the client is not run again by itself", async () => {
    const first = await call("ask");
    assert.equal(first.result.resultType, "input_required");
    const { result } = await request(server.url, "2026-07-28", "tools/call", {
      name: "ask",
      arguments: {},
      inputResponses: { "elicit-1": { action: "accept", content: {} } },
      requestState: first.result.requestState,
    });
    assert.match(result.content[0].text, /^accept, run 1 /);
  });

  test("whose places are taken lets others wait", async () => {
    const inside = await Promise.all(Array.from({ length: 6 }, () => text("turnstile")));
    assert.deepEqual(inside, Array(6).fill("1"));
  });
});

describe("batch", () => {
  test("is listed with its schemas, behind the definition's tools", async () => {
    const { result } = await request(server.url, "2026-07-28", "tools/list");
    const { name, inputSchema, outputSchema } = result.tools.at(-1);
    assert.deepEqual([name, inputSchema.properties.calls.maxItems, outputSchema.type], ["batch", 100, "object"]);
  });

  test("keeps what failed apart from what worked", async () => {
    const outcome = await batch([
      { tool: "double", arguments: { n: 1 } },
      { tool: "double", arguments: { n: "one" } },
      { tool: "fragile", arguments: { key: "batch", failures: 1 } },
      { tool: "no_such_tool" },
      { tool: "batch", arguments: { calls: [{ tool: "double", arguments: { n: 1 } }] } },
      { tool: "refuse" },
      { tool: "ask" },
      { tool: "quadruple", arguments: { n: 1 } },
    ]);
    assert.deepEqual([outcome.succeeded, outcome.failed], [2, 6]);
    assert.deepEqual(outcome.results[0], { index: 0, tool: "double", ok: true, value: { doubled: 2 } });
    assert.deepEqual(outcome.results[7], { index: 7, tool: "quadruple", ok: true, value: '{"doubled":4}' });
    assert.deepEqual(
      outcome.results.slice(1, 7).map(({ reason }: { reason: string }) => reason),
      ["arguments", "threw", "unknown_tool", "unknown_tool", "tool_error", "threw"],
    );
    assert.match(outcome.results[6].error, /ctx\.elicit cannot be used in one of several calls/);
  });

  test("makes tools wait for their places", async () => {
    const { succeeded, results } = await batch(Array(10).fill({ tool: "turnstile" }));
    assert.equal(succeeded, 10);
    assert.deepEqual(new Set(results.map(({ value }: { value: string }) => value)), new Set(["1"]));
  });

  test("reports progress for each call, and none of the calls' own", async () => {
    const params = {
      name: "batch",
      arguments: { calls: [{ tool: "double", arguments: { n: 1 } }, { tool: "refuse" }], concurrency: 1 },
      _meta: { progressToken: "p" },
    };
    const { messages } = await readAnswer(await fetch(`${server.url}/mcp`, requestInit("2026-07-28", "tools/call", params)));
    const progress = messages.filter(({ method }) => method === "notifications/progress");
    assert.deepEqual(
      progress.map(({ params: { progress: done, total, message } }) => [done, total, message]),
      [[1, 2, "double: done"], [2, 2, "refuse: tool_error"]],
    );
  });

  test("leaves out what does not fit, and keeps the rest", async () => {
    const bytes = 3 * 1024 * 1024;
    const { results } = await batch([{ tool: "large", arguments: { bytes } }, { tool: "large", arguments: { bytes } }], { concurrency: 1 });
    assert.equal(results[0].value.length, bytes);
    assert.deepEqual([results[1].ok, results[1].reason], [false, "too_large"]);
  });

  test("ends what runs before its own time is up, and keeps the rest", async () => {
    const outcome = await batch([{ tool: "double", arguments: { n: 1 } }, { tool: "sleep" }, { tool: "sleep" }], { concurrency: 2 });
    assert.deepEqual([outcome.succeeded, outcome.failed], [1, 2]);
    assert.deepEqual(
      outcome.results.slice(1).map(({ reason }: { reason: string }) => reason),
      ["cancelled", "cancelled"],
    );
  });

  test("takes at most a hundred calls", async () => {
    const { result } = await call("batch", { calls: Array(101).fill({ tool: "double" }) });
    assert.equal(result.isError, true);
    assert.match(result.content[0].text, /calls/);
  });
});
