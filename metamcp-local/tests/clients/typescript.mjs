// Uses a server through the official TypeScript client, pinned to one era, and prints what it saw as JSON.
// node typescript.mjs <a file beside node_modules> <url> <2025-11-25 | 2026-07-28>
import { createRequire } from "node:module";

const [modules, url, era] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport } = createRequire(modules)("@modelcontextprotocol/client");

const client = new Client(
  { name: "metamcp-test", version: "1.0.0" },
  {
    capabilities: { elicitation: {}, sampling: {}, roots: {} },
    versionNegotiation: { mode: era === "2026-07-28" ? { pin: era } : "legacy" },
  },
);
const message = { role: "assistant", content: { type: "text", text: "from the model" }, model: "test" };
client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { name: "Ada" } }));
client.setRequestHandler("sampling/createMessage", async () => message);
client.setRequestHandler("roots/list", async () => ({ roots: [{ uri: "file:///work" }] }));
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

/** The resource of which the client hears that it changed, once a tool changed it. */
async function hear(uri) {
  const heard = Promise.withResolvers();
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => heard.resolve(params.uri));
  const subscription = era === "2026-07-28" ? await client.listen({ resourceSubscriptions: [uri] }) : undefined;
  if (subscription === undefined) await client.subscribeResource({ uri });
  await client.callTool({ name: "touch" });
  const changed = await heard.promise;
  await subscription?.close();
  return changed;
}

const progress = [];
const onprogress = ({ progress: done }) => progress.push(done);
const seen = {
  version: client.getNegotiatedProtocolVersion(),
  tools: (await client.listTools()).tools.map(({ name }) => name),
  sum: (await client.callTool({ name: "add", arguments: { a: 2, b: 3 } })).structuredContent,
  refused: (await client.callTool({ name: "add", arguments: { a: "2" } })).isError,
  picture: (await client.callTool({ name: "picture" })).content,
  counted: (await client.callTool({ name: "count" }, { onprogress })).content,
  progress,
  asked: (await client.callTool({ name: "interview" })).content,
  resources: (await client.listResources()).resources.map(({ uri }) => uri),
  templates: (await client.listResourceTemplates()).resourceTemplates.map(({ uriTemplate }) => uriTemplate),
  bytes: (await client.readResource({ uri: "foreign://bytes" })).contents,
  item: (await client.readResource({ uri: "foreign://item/7" })).contents,
  prompt: (await client.getPrompt({ name: "review", arguments: { language: "rust" } })).messages,
  completion: (
    await client.complete({ ref: { type: "ref/prompt", name: "review" }, argument: { name: "language", value: "ru" } })
  ).completion.values,
  heard: await hear("foreign://bytes"),
};
await client.close();
console.log(JSON.stringify(seen));
