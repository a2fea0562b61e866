import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ERAS, readAnswer, requestInit, type Era } from "./client.ts";
import { generateServer, type ToolInShort } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const numbers = { type: "object", properties: { n: { type: "number", default: 1 } } };

const TOOLS: ToolInShort[] = [
  { name: "text", body: "return `got ${JSON.stringify(parameters)}`;" },
  { name: "later", body: "await new Promise((resolve) => setTimeout(resolve, 5));\nreturn 'late';" },
  { name: "add", inputSchema: numbers, outputSchema: { type: "object", properties: { n: { type: "number" } } }, body: "return { n: parameters.n + 1 };" },
  { name: "proto", outputSchema: { type: "object" }, body: "return JSON.parse('{\"__proto__\": {\"a\": 1}, \"b\": {\"__proto__\": 2}}');" },
  { name: "number", outputSchema: { type: "number" }, body: "return 7;" },
  { name: "either", outputSchema: { anyOf: [{ type: "object" }, { type: "string" }] }, body: "return { a: 1 };" },
  { name: "list", outputSchema: { type: "array" }, body: "return [1, 2];" },
  { name: "bad_output", outputSchema: { type: "object", required: ["n"] }, body: "return {};" },
  { name: "blocks", body: "return { content: [{ type: 'text', text: 'a' }, { type: 'text', text: 'b', annotations: { priority: 1 } }] };" },
  { name: "empty", body: "return { content: [] };" },
  { name: "data_only", body: "return { structuredContent: { n: [1, null] } };" },
  { name: "with_meta", body: "return { content: [], _meta: { 'example.com/a': 1 }, more: 2 };" },
  { name: "failed", body: "return { content: [{ type: 'text', text: 'no' }], isError: true };" },
  { name: "image", body: "return { content: [{ type: 'image', data: new Uint8Array(3), mimeType: 'image/png' }] };" },
  { name: "throws", body: "throw new Error('thrown');" },
  { name: "throws_late", body: "await new Promise((resolve) => setTimeout(resolve, 5));\nthrow new Error('thrown');" },
  { name: "hangs", body: "return new Promise(() => {});", timeoutMs: 40 },
  { name: "logs", body: "await ctx.log('info', { a: 1 });\nreturn 'logged';" },
  { name: "logs_late", body: "await new Promise((resolve) => setTimeout(resolve, 5));\nawait ctx.log('error', 'b');\nreturn 'logged';" },
  { name: "logs_and_throws", body: "await ctx.log('info', 1);\nthrow new Error('thrown');" },
  { name: "progresses", body: "for (const n of [1, 2]) await ctx.progress(n, 2, 'm');\nreturn 'done';" },
  { name: "asks", body: "const { content } = await ctx.elicit({ message: 'Name?', requestedSchema: { type: 'object', properties: {} } });\nreturn content;" },
  { name: "asks_after_logging", body: "await ctx.log('info', 1);\nconst { roots } = await ctx.listRoots();\nreturn roots;" },
  { name: "knows", body: "return [ctx.requestId, ctx.clientCapabilities, ctx.signal.aborted];" },
  { name: "calls", body: "const { content } = await ctx.callTool('text', parameters);\nreturn content[0].text;" },
  { name: "calls_nothing", body: "return ctx.callTool('nothing');" },
  { name: "headed", inputSchema: { type: "object", properties: { n: { type: "number", "x-mcp-header": "N" } } }, body: "return parameters;" },
];

const VERSION = "io.modelcontextprotocol/protocolVersion";
const CLIENT = "io.modelcontextprotocol/clientInfo";
const CAPABILITIES = "io.modelcontextprotocol/clientCapabilities";
const LEVEL = "io.modelcontextprotocol/logLevel";

/** A request, and one of the ways in which clients are odd. */
interface Sent {
  headers: Record<string, string>;
  message: any;
}

const ODD: Record<string, (sent: Sent) => unknown> = {
  plain: () => {},
  "without arguments": ({ message }) => delete message.params.arguments,
  "with null as arguments": ({ message }) => (message.params.arguments = null),
  "with a list as arguments": ({ message }) => (message.params.arguments = [1]),
  "with wrong arguments": ({ message }) => (message.params.arguments = { n: "x" }),
  "with a prototype as argument": ({ message }) => (message.params.arguments = JSON.parse('{"__proto__": {"n": 1}, "n": 2}')),
  "with a progress token": ({ message }) => (message.params._meta = { ...message.params._meta, progressToken: "p" }),
  "with a log level": ({ message }) => (message.params._meta = { ...message.params._meta, [LEVEL]: "warning" }),
  "with a log level that lets all through": ({ message }) => (message.params._meta = { ...message.params._meta, [LEVEL]: "debug" }),
  "with a log level that is none": ({ message }) => (message.params._meta = { ...message.params._meta, [LEVEL]: "loud" }),
  "with a trace": ({ message }) => (message.params._meta = { ...message.params._meta, traceparent: "00-1-2-01" }),
  "without a client": ({ message }) => delete message.params._meta?.[CLIENT],
  "with half a client": ({ message }) => message.params._meta && (message.params._meta[CLIENT] = { name: "half" }),
  "with a client that is none": ({ message }) => message.params._meta && (message.params._meta[CLIENT] = { name: 1, version: "1" }),
  "without capabilities": ({ message }) => delete message.params._meta?.[CAPABILITIES],
  "with no capabilities": ({ message }) => message.params._meta && (message.params._meta[CAPABILITIES] = {}),
  "with capabilities that are none": ({ message }) => message.params._meta && (message.params._meta[CAPABILITIES] = { sampling: true }),
  "with unknown capabilities": ({ message }) => message.params._meta && (message.params._meta[CAPABILITIES] = { roots: { listChanged: true }, experimental: { a: {} }, odd: 1 }),
  "of another version inside": ({ message }) => message.params._meta && (message.params._meta[VERSION] = "2025-11-25"),
  "without an envelope": ({ message }) => delete message.params._meta,
  "with an empty envelope": ({ message }) => (message.params._meta = {}),
  "with more parameters": ({ message }) => (message.params.more = 1),
  "with a task": ({ message }) => (message.params.task = { ttl: 1 }),
  "with a state": ({ message }) => (message.params.requestState = "x"),
  "with answers": ({ message }) => (message.params.inputResponses = { "elicit-1": { action: "accept", content: { a: 1 } } }),
  "with a text as id": ({ message }) => (message.id = "seven"),
  "with an empty id": ({ message }) => (message.id = ""),
  "with a fraction as id": ({ message }) => (message.id = 1.5),
  "with null as id": ({ message }) => (message.id = null),
  "without an id": ({ message }) => delete message.id,
  "with more members": ({ message }) => (message.more = 1),
  "of another JSON-RPC": ({ message }) => (message.jsonrpc = "1.0"),
  "without a name": ({ message }) => delete message.params.name,
  "of another method": ({ message }) => (message.method = "tools/cull"),
  "without parameters": ({ message }) => delete message.params,
  "in a list": (sent) => (sent.message = [sent.message]),
  "without a method header": ({ headers }) => delete headers["mcp-method"],
  "with another method header": ({ headers }) => (headers["mcp-method"] = "tools/list"),
  "without a name header": ({ headers }) => delete headers["mcp-name"],
  "with another name header": ({ headers }) => (headers["mcp-name"] = "text "),
  "with an encoded name header": ({ headers, message }) => (headers["mcp-name"] = `=?base64?${Buffer.from(message.params.name).toString("base64")}?=`),
  "without a version header": ({ headers }) => delete headers["mcp-protocol-version"],
  "of an unknown version": ({ headers }) => (headers["mcp-protocol-version"] = "2031-01-01"),
  "that takes JSON only": ({ headers }) => (headers["accept"] = "application/json"),
  "that takes anything": ({ headers }) => delete headers["accept"],
  "with an argument in a header": ({ headers }) => (headers["mcp-param-n"] = "1"),
};

/** What a client can tell apart, without what differs from call to call. */
async function sendTo(server: RunningServer, { headers, message }: Sent): Promise<unknown> {
  const response = await fetch(`${server.url}/mcp`, { method: "POST", headers, body: JSON.stringify(message) });
  const { status, contentType, messages } = await readAnswer(response);
  // What is signed differs each time.
  const text = JSON.stringify(messages).replace(/"requestState":"[^"]*"/g, '"requestState":"…"');
  return { status, contentType, cache: response.headers.get("cache-control"), messages: JSON.parse(text) };
}

function sent(era: Era, name: string, oddity: string): Sent {
  const { headers, body } = requestInit(era, "tools/call", { name, arguments: { n: 1 } });
  const made = { headers: { ...(headers as Record<string, string>) }, message: JSON.parse(body as string) };
  ODD[oddity]!(made);
  return made;
}

describe("a call that is answered beside the SDK", () => {
  let beside: RunningServer;
  let sdk: RunningServer;

  before(async () => {
    const server = generateServer({ tools: TOOLS });
    beside = await startServer(join(process.cwd(), "remote-mcp-authless", "src", "index.ts"), server);
    sdk = await startServer(join(process.cwd(), "runtime", "test", "sdk-entry.ts"), server);
  });
  after(() => Promise.all([beside.stop(), sdk.stop()]));

  for (const era of ERAS) {
    for (const oddity of Object.keys(ODD)) {
      test(`is what the SDK answers: ${era}, a request ${oddity}`, async () => {
        for (const name of [...TOOLS.map((tool) => tool.name), "nothing", "toString"]) {
          const [ours, theirs] = await Promise.all([sendTo(beside, sent(era, name, oddity)), sendTo(sdk, sent(era, name, oddity))]);
          assert.deepEqual(ours, theirs, name);
        }
      });
    }
  }
});
