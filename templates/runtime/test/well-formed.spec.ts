import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { requestInit, type Era } from "./client.ts";
import { generateServer } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const entry = join(process.cwd(), "runtime", "test", "session-entry.ts");
const durableObjects = { METAMCP_SESSIONS: "McpSession", METAMCP_SESSION_DIRECTORY: "McpSessionDirectory" };

const HALF = "const half = ('Hello 🎉').slice(0, 7);\n";
const WHOLE = "Hello \ufffd";

/** Bodies that cut an emoji in two, and what the client reads. */
const BODIES: Record<string, [body: string, read: string]> = {
  text: ["return half;", `"text":"${WHOLE}"`],
  value: ["return { deep: [{ [half]: half }] };", `{\\"deep\\":[{\\"${WHOLE}\\":\\"${WHOLE}\\"}]}`],
  blocks: ["return { content: [{ type: 'text', text: half }], structuredContent: { [half]: half } };", `{"${WHOLE}":"${WHOLE}"}`],
  both_halves: ["return half + '\\udf89' + ' ' + '\\udf89';", `"text":"Hello 🎉 \ufffd"`],
  written_out: ["return { path: 'C:\\\\ud83c', half };", `{\\"path\\":\\"C:\\\\\\\\ud83c\\",\\"half\\":\\"${WHOLE}\\"}`],
  thrown: ["throw new Error(half);", `"text":"${WHOLE} (line 2 of the body)"`],
  thrown_object: ["throw { half };", WHOLE],
  progress: ["await ctx.progress(1, 1, half);\nreturn 1;", `"message":"${WHOLE}"`],
  log: ["await ctx.log('error', { [half]: half });\nreturn 1;", `"data":{"${WHOLE}":"${WHOLE}"}`],
  inner: ["return await ctx.callTool('text');", `"text":"${WHOLE}"`],
  nobody: ["return await ctx.callTool(half);", `Tool ${WHOLE} not found`],
};

let server: RunningServer;
before(async () => {
  const tools = [
    ...Object.entries(BODIES).map(([name, [body]]) => ({ name, body: HALF + body })),
    { name: "structured", body: `${HALF}return half;`, outputSchema: { type: "string" } },
    { name: "asks", body: `${HALF}return await ctx.elicit({ message: half, requestedSchema: { type: 'object', properties: {} } }, { key: half });` },
    { name: "echo", body: "return parameters.text + JSON.stringify(parameters);", inputSchema: { type: "object" } },
    { name: "strict", body: "return 1;", inputSchema: { type: "object", additionalProperties: false } },
  ];
  const resources = [
    { uri: "r://text", body: `${HALF}return half;` },
    { uri: "r://contents", body: `${HALF}return { contents: [{ text: half }] };` },
    { uri: "r://throws", body: `${HALF}throw new Error(half);` },
  ];
  const prompts = [
    { name: "text", body: `${HALF}return half;` },
    { name: "throws", body: `${HALF}throw new Error(half);` },
  ];
  server = await startServer(entry, { ...generateServer({ tools, resources, prompts }), durableObjects });
});
after(() => server.stop());

for (const [kind, send] of Object.entries({ "2026-07-28": inEra("2026-07-28"), "2025-11-25": inEra("2025-11-25"), session: inSession })) {
  for (const [name, [, read]] of Object.entries(BODIES)) {
    test(`${kind}: what a body makes as ${name} leaves the server well-formed`, async () => {
      const text = await send("tools/call", { name, arguments: {}, _meta: { progressToken: 1, "io.modelcontextprotocol/logLevel": "debug" } });
      assert.ok(text.includes(read), text);
    });
  }

  test(`${kind}: so do structured texts, resources and prompts`, async () => {
    for (const [method, params] of [
      ["tools/call", { name: "structured", arguments: {} }],
      ["resources/read", { uri: "r://text" }],
      ["resources/read", { uri: "r://contents" }],
      ["resources/read", { uri: "r://throws" }],
      ["prompts/get", { name: "text" }],
      ["prompts/get", { name: "throws" }],
    ] as const) {
      assert.ok((await send(method, params)).includes(WHOLE), method);
    }
  });

  test(`${kind}: so does what a client sent`, async () => {
    const text = await send("tools/call", { name: "echo", arguments: { text: "🎉 \ud83c", "\udf89": "\\ud83c" } });
    assert.ok(text.includes(`🎉 \ufffd{\\"text\\":\\"🎉 \ufffd\\",\\"\ufffd\\":\\"\\\\\\\\ud83c\\"}`), text);
    assert.match(await send("tools/call", { name: "\ud83c", arguments: {} }), /\ufffd/);
    assert.match(await send("tools/call", { name: "strict", arguments: { "\ud83c": 1 } }), /\ufffd/);
    assert.match(await send("resources/read", { uri: "r://\ud83c" }), /\ufffd/);
  });
}

test("so do questions", async () => {
  const text = await inEra("2026-07-28")("tools/call", { name: "asks", arguments: {} });
  assert.ok(text.includes(`"message":"${WHOLE}"`) && text.includes(`"${WHOLE}":{`), text);
});

type Send = (method: string, params: Record<string, unknown>) => Promise<string>;

function inEra(era: Era): Send {
  return async (method, params) => readStrictly(await fetch(`${server.url}/mcp`, withoutSurrogateHeaders(requestInit(era, method, params))));
}

let session: Promise<string> | undefined;

async function inSession(method: string, params: Record<string, unknown>): Promise<string> {
  session ??= open();
  const { headers, ...init } = requestInit("2025-11-25", method, params);
  const response = await fetch(`${server.url}/mcp`, { ...init, headers: { ...headers, "mcp-session-id": await session } });
  return readStrictly(response);
}

async function open(): Promise<string> {
  const clientInfo = { name: "spec", version: "1.0.0" };
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo };
  const response = await fetch(`${server.url}/mcp`, requestInit("2025-11-25", "initialize", params));
  await readStrictly(response);
  return response.headers.get("mcp-session-id")!;
}

/** A header holds no such name; the server then says that the two differ. */
function withoutSurrogateHeaders(init: RequestInit): RequestInit {
  const headers = Object.entries(init.headers as Record<string, string>);
  return { ...init, headers: Object.fromEntries(headers.map(([name, value]) => [name, value.replace(/[^\x20-\x7e]/g, "")])) };
}

/** The text of an answer, which holds no half of a surrogate pair. */
async function readStrictly(response: Response): Promise<string> {
  const text = await response.text();
  for (const [, half] of text.matchAll(/\\(?:u(d[89ab]..\\ud[c-f]..)|u(d[89a-f]..)|.)/gi)) assert.equal(half, undefined, text);
  return text;
}
