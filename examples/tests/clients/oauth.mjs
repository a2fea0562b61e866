// Uses the reference server with nothing but its URL and a client's credentials at the issuer: the official TypeScript
// client finds the issuer, asks for the scopes it is told, and asks again for one that is missing. Prints what it saw.
// node oauth.mjs <a file beside node_modules> <2025-11-25 | 2026-07-28> <url> <issuer>
import { createRequire } from "node:module";

const [modules, era, url, issuer] = process.argv.slice(2);
const require = createRequire(modules);
const { Client, ClientCredentialsProvider, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");

const authProvider = new ClientCredentialsProvider({
  clientId: "agent",
  clientSecret: "agent-secret",
  expectedIssuer: issuer,
});
const versionNegotiation = { mode: era === "2026-07-28" ? { pin: era } : "legacy" };
const client = new Client({ name: "metamcp-test", version: "1.0.0" }, { versionNegotiation });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { authProvider }));

const { tools } = await client.listTools();
const first = authProvider.tokens().scope;
const servers = await client.callTool({ name: "list_mcp_servers", arguments: {} });
const audit = await client.callTool({ name: "list_audit_log", arguments: {} });
console.log(
  JSON.stringify({
    offered: ["add_mcp_tool", "list_audit_log"].map((name) => tools.some((tool) => tool.name === name)),
    first,
    servers: servers.structuredContent,
    audit: audit.structuredContent,
    stepped: authProvider.tokens().scope,
  }),
);
await client.close();
