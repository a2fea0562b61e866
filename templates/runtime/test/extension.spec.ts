import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { request, type Answer } from "./client.ts";
import { generateServer, type ToolInShort } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const entry = join(process.cwd(), "runtime", "test", "extension-entry.ts");
const LONG_MS = 60_000;

const TOOLS: ToolInShort[] = [
  { name: "echo", body: "return JSON.stringify(parameters);" },
  { name: "fails", body: "throw new Error('no');" },
  { name: "sleeps", body: "await new Promise((resolve) => setTimeout(resolve, 60_000));" },
  { name: "returns_nothing", body: "" },
  { name: "takes_text", inputSchema: { type: "object", required: ["text"] }, body: "return 1;" },
  { name: "asks", body: "return ctx.elicit({ message: 'Who?', requestedSchema: { type: 'object', properties: {} } });" },
  {
    name: "ends_or_sleeps",
    timeoutMs: LONG_MS,
    body: "if (parameters.abort) return 'ended';\nreturn new Promise((resolve) => setTimeout(resolve, 60_000));",
  },
  {
    name: "one_at_a_time",
    timeoutMs: LONG_MS,
    concurrency: 1,
    body: "globalThis.at = (globalThis.at ?? 0) + 1;\nconst at = globalThis.at;\nawait new Promise((resolve) => setTimeout(resolve, 20));\nglobalThis.at -= 1;\nreturn String(at);",
  },
];

const SIDE_BY_SIDE = { name: "side_by_side", description: "Calls.", inputSchema: { type: "object" }, timeoutMs: LONG_MS };

function start(around?: object): Promise<RunningServer> {
  return startServer(entry, generateServer({ tools: TOOLS, templateTools: [SIDE_BY_SIDE], options: { around } }));
}

const call = (server: RunningServer, name: string, parameters: object = {}): Promise<Answer> =>
  request(server.url, "2026-07-28", "tools/call", { name, arguments: parameters });

describe("side by side", () => {
  let server: RunningServer;
  before(async () => void (server = await start()));
  after(() => server?.stop());

  const ends = async (tool: string, inputs: object[], limit = inputs.length) => {
    const { result } = await call(server, "side_by_side", { tool, inputs, limit });
    return JSON.parse(result.content[0].text);
  };

  test("each call ends for itself, in the order of the inputs", async () => {
    const texts = await ends("echo", [{ n: 1 }, { n: 2 }, { n: 3 }], 2);
    assert.deepEqual(texts.map(({ text }: { text: string }) => text), ['{"n":1}', '{"n":2}', '{"n":3}']);
  });

  for (const [tool, kind] of [
    ["fails", "threw"],
    ["sleeps", "timeout"],
    ["returns_nothing", "output"],
    ["takes_text", "arguments"],
    ["asks", "threw"],
  ] as const) {
    test(`the failure of ${tool} is told as ${kind}`, async () => assert.deepEqual(await ends(tool, [{}]), [kind]));
  }

  test("a full tool is busy at once", async () => {
    const all = await ends("one_at_a_time", [{}, {}]);
    assert.deepEqual(all, [{ type: "text", text: "1" }, "busy"]);
  });

  test("a signal ends what runs, and nothing begins after it", async () => {
    const all = await ends("ends_or_sleeps", [{}, { abort: true }, {}, {}], 2);
    assert.deepEqual(all, ["cancelled", { type: "text", text: "ended" }, "not begun", "not begun"]);
  });
});

test("around sees why a call failed", async () => {
  const server = await start({ tell: true });
  try {
    const told = await Promise.all(["fails", "sleeps", "returns_nothing"].map((tool) => call(server, tool)));
    assert.deepEqual(told.map(({ result }) => result.content[0].text), ["threw", "timeout", "output"]);
  } finally {
    await server.stop();
  }
});

test("around narrows a run's time", async () => {
  const server = await start({ timeoutMs: 50 });
  try {
    const { result } = await call(server, "ends_or_sleeps");
    assert.equal(result.content[0].text, 'tool "ends_or_sleeps" timed out after 50 ms');
  } finally {
    await server.stop();
  }
});

test("calls that may wait run one after the other, those of other requests too", async () => {
  const server = await start({ waitMs: LONG_MS });
  try {
    const inputs = Array.from({ length: 5 }, () => ({}));
    const [inner, ...outer] = await Promise.all([
      call(server, "side_by_side", { tool: "one_at_a_time", inputs, limit: 5 }),
      ...inputs.map(() => call(server, "one_at_a_time")),
    ]);
    const texts = JSON.parse(inner.result.content[0].text).map(({ text }: { text: string }) => text);
    assert.deepEqual([...texts, ...outer.map(({ result }) => result.content[0].text)], Array(10).fill("1"));
  } finally {
    await server.stop();
  }
});
