// Has a person type a secret on the page that Meta-MCP shows, through the official TypeScript client, and prints what
// the agent saw as JSON.
// node secret.mjs <a file beside node_modules> <2025-11-25 | 2026-07-28> <value> <command> <argument>…
import { createRequire } from "node:module";

const [modules, era, value, command, ...args] = process.argv.slice(2);
const require = createRequire(modules);
const { Client } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

const client = new Client(
  { name: "metamcp-test", version: "1.0.0" },
  {
    capabilities: { elicitation: { url: {} } },
    versionNegotiation: { mode: era === "2026-07-28" ? { pin: era } : "legacy" },
  },
);
const asked = [];
client.setRequestHandler("elicitation/create", async ({ params }) => {
  asked.push(params.mode, params.message);
  if (asked.length > 2) return { action: "decline" };
  // The person opens the page and takes a moment.
  setTimeout(() => type(params.url), 50);
  return { action: "accept" };
});

async function type(url) {
  const shown = await (await fetch(url)).text();
  if (!shown.includes("<form method=\"post\"")) throw new Error(shown);
  const headers = { origin: new URL(url).origin };
  const sent = await fetch(url, { method: "POST", headers, body: new URLSearchParams({ value }) });
  if (!sent.ok) throw new Error(await sent.text());
}

await client.connect(new StdioClientTransport({ command, args, env: { ...process.env }, stderr: "inherit" }));
const call = (name, args) => client.callTool({ name, arguments: { serverId: "vault", ...args } });
await client.callTool({ name: "init_mcp_server", arguments: { name: "vault", description: "Has a secret." } });
await call("update_mcp_server", { settings: { secrets: ["TOKEN"] } });
const implementation = "return [...env.TOKEN].reverse().join('');";
await call("add_mcp_tool", { toolName: "backwards", description: "Says it backwards.", implementation });
const set = await call("set_secret", { name: "TOKEN" });
await call("deploy_mcp_server", {});
const called = await call("call_mcp_tool", { toolName: "backwards" });
const declined = await call("set_secret", { name: "TOKEN" });
await client.close();
console.log(
  JSON.stringify({
    set: set.structuredContent,
    modes: asked.filter((_, index) => index % 2 === 0),
    seen: JSON.stringify([asked, set, declined]).includes(value),
    called: called.content[0].text,
    declined: [declined.isError, declined.content[0].text.split(":")[0]],
  }),
);
