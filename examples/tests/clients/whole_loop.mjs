// Does what an agent does with Meta-MCP, through the official TypeScript client, and prints what it saw as JSON.
// node whole_loop.mjs <a file beside node_modules> <2025-11-25 | 2026-07-28> stdio <command> <argument>…
// node whole_loop.mjs <a file beside node_modules> <2025-11-25 | 2026-07-28> http <url> <key>
import { createRequire } from "node:module";

const [modules, era, transport, place, ...more] = process.argv.slice(2);
const require = createRequire(modules);
const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

async function connect(to) {
  const versionNegotiation = { mode: era === "2026-07-28" ? { pin: era } : "legacy" };
  const client = new Client({ name: "metamcp-test", version: "1.0.0" }, { versionNegotiation });
  await client.connect(to);
  return client;
}

function door() {
  if (transport === "stdio") {
    return new StdioClientTransport({ command: place, args: more, env: { ...process.env }, stderr: "inherit" });
  }
  const requestInit = { headers: { authorization: `Bearer ${more[0]}` } };
  return new StreamableHTTPClientTransport(new URL(place), { requestInit });
}

const meta = await connect(door());
// The client checks each result against the tool's output schema, once it has the list.
const { tools } = await meta.listTools();
const call = (name, args, options) => meta.callTool({ name, arguments: args }, options);
const data = async (name, args, options) => {
  const result = await call(name, args, options);
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  return result.structuredContent;
};
const tool = { serverId: "words", toolName: "count" };
const use = { ...tool, arguments: { text: "one two three" } };

const created = await data("init_mcp_server", { name: "words", description: "Counts words." });
await data("add_mcp_tool", {
  ...tool,
  description: "Counts the words of a text.",
  parameters: { text: { type: "string", required: true } },
  implementation: "const words = parameters.text.split(' ');\nreturn { words: wrods.length };",
});
const failed = await call("test_mcp_tool", use);
await data("update_mcp_tool", { ...tool, implementation: "return { words: parameters.text.split(' ').length };" });
const tested = await call("test_mcp_tool", use);
let steps = 0;
const first = await data("deploy_mcp_server", { serverId: "words" }, { onprogress: () => (steps += 1) });
const called = await call("call_mcp_tool", use);
const server = await connect(new StreamableHTTPClientTransport(new URL(first.url)));
const direct = await server.callTool({ name: "count", arguments: { text: "one two" } });
await server.close();
await data("update_mcp_tool", { ...tool, implementation: "console.log('second version'); return { words: -1 };" });
await data("deploy_mcp_server", { serverId: "words" });
const second = await call("call_mcp_tool", use);
const { versions } = await data("list_versions", { serverId: "words" });
await data("rollback", { serverId: "words", versionId: first.versionId });
const back = await call("call_mcp_tool", use);
const { lines } = await data("get_server_logs", { serverId: "words" });
const details = await data("get_mcp_server_details", { serverId: created.serverId });
const cleaned = await data("cleanup_old_servers", { daysThreshold: 0, dryRun: false });
const version = meta.getNegotiatedProtocolVersion();
await meta.close();
console.log(
  JSON.stringify({
    version,
    tools: tools.length > 30,
    container: created.containerID,
    failed: [failed.isError, /wrods is not defined.*line 2/.test(failed.content[0].text)],
    tested: tested.content[0].text,
    progress: steps > 3,
    called: called.content[0].text,
    direct: direct.content[0].text,
    second: second.content[0].text,
    versions: versions.length,
    back: back.content[0].text,
    logged: lines.some((line) => line.endsWith("second version")),
    details: [details.name, details.revision, details.liveRevision],
    removed: cleaned.removed,
  }),
);
