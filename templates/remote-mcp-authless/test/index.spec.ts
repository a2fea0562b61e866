import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ERAS, request, type Answer } from "../../runtime/test/client.ts";
import { generatedSample } from "../../runtime/test/sample.ts";
import { startServer, type RunningServer } from "../../runtime/test/workerd.ts";

const folder = join(process.cwd(), "remote-mcp-authless");
const sample = JSON.parse(await readFile(join(folder, "sample.json"), "utf8"));

let server: RunningServer;

before(async () => {
  const generated = await generatedSample(folder);
  server = await startServer(join(folder, "src", "index.ts"), { ...generated, environment: { UNITS: "metric" } });
});

after(() => server?.stop());

test("health needs no MCP", async () => {
  const response = await fetch(`${server.url}/health`);
  assert.deepEqual([response.status, await response.json()], [200, { status: "ok" }]);
});

test("a 2025 client negotiates", async () => {
  const { result } = await request(server.url, "2025-11-25", "initialize", {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "spec", version: "1.0.0" },
  });
  assert.equal(result.protocolVersion, "2025-11-25");
  assert.deepEqual(result.serverInfo, { name: "sample", version: "1.2.3", description: sample.description });
});

test("a 2026 client discovers", async () => {
  const { result } = await request(server.url, "2026-07-28", "server/discover");
  assert.deepEqual(result.supportedVersions, ["2026-07-28"]);
  assert.deepEqual(result.capabilities.tools, { listChanged: false });
});

for (const era of ERAS) {
  const call = (name: string, parameters: object, more: object = {}): Promise<Answer> =>
    request(server.url, era, "tools/call", { name, arguments: parameters, ...more });

  describe(`in ${era}`, () => {
    test("tools are listed in the definition's order, hostile text as it is", async () => {
      const { result } = await request(server.url, era, "tools/list");
      assert.deepEqual(
        result.tools.map(({ name, description }: { name: string; description: string }) => ({ name, description })),
        sample.tools.map(({ name, description }: { name: string; description: string }) => ({ name, description })),
      );
      assert.deepEqual(Object.keys(result.tools[0]).sort(), ["annotations", "description", "inputSchema", "name", "outputSchema", "title"]);
    });

    test("the examples hold", async () => {
      for (const tool of sample.tools) {
        for (const example of tool.examples ?? []) {
          const { result } = await call(tool.name, example.arguments);
          assert.deepEqual(result.structuredContent, example.expected);
        }
      }
    });

    test("a default fills in for a missing argument", async () => {
      const { result } = await call("add", { a: 2 });
      assert.deepEqual(result.structuredContent, { sum: 3 });
    });

    test("a body's text is itself, and its environment is bound", async () => {
      const { result } = await call("echo", { text: "`${x}` $& \u2028" });
      assert.equal(result.content[0].text, "`${x}` $& \u2028 (metric\u2028)");
    });

    test("a throw names the body's own line", async () => {
      const { result } = await call("fail", {});
      assert.equal(result.isError, true);
      assert.equal(result.content[0].text, 'no luck with {} (line 2 of the body)');
    });

    test("progress and logs make an event stream", async () => {
      const meta = { progressToken: "p", "io.modelcontextprotocol/logLevel": "debug" };
      const { contentType, messages, result } = await call("countdown", { from: 2 }, { _meta: meta });
      assert.equal(contentType, "text/event-stream");
      assert.deepEqual(
        messages.map((message) => message.method),
        ["notifications/progress", "notifications/message", "notifications/progress", "notifications/message", undefined],
      );
      assert.equal(result.content[0].text, "lift-off");
    });

    test("resources are listed and read", async () => {
      const { result: list } = await request(server.url, era, "resources/list");
      assert.deepEqual(list.resources.map(({ uri }: { uri: string }) => uri), ["sample://about"]);
      const { result: templates } = await request(server.url, era, "resources/templates/list");
      assert.equal(templates.resourceTemplates[0].uriTemplate, "sample://pixel/{color}");

      const { result: about } = await request(server.url, era, "resources/read", { uri: "sample://about" });
      assert.deepEqual(about.contents, [{ uri: "sample://about", mimeType: "text/plain", text: "A sample." }]);
      const { result: pixel } = await request(server.url, era, "resources/read", { uri: "sample://pixel/ff8000" });
      assert.equal(pixel.contents[0].blob, Buffer.from([255, 128, 0]).toString("base64"));
    });

    test("prompts are listed, filled in one pass, and completed", async () => {
      const { result: list } = await request(server.url, era, "prompts/list");
      assert.deepEqual(list.prompts[0].arguments[0], { name: "language", description: "Of the code.", required: true });

      const prompt = { name: "review", arguments: { language: "$& {{focus}}" } };
      const { result: review } = await request(server.url, era, "prompts/get", prompt);
      assert.equal(review.messages[0].content.text, "Review this $& {{focus}} code. ");

      const { result: completed } = await request(server.url, era, "completion/complete", {
        ref: { type: "ref/prompt", name: "review" },
        argument: { name: "language", value: "r" },
      });
      assert.deepEqual(completed.completion.values, ["rust", "ruby"]);
    });
  });
}

test("a question goes to the client of 2026 and comes back with its answer", async () => {
  const params = { name: "confirm", arguments: { action: "go" } };
  const asked = await request(server.url, "2026-07-28", "tools/call", params);
  assert.equal(asked.result.resultType, "input_required");
  const [key] = Object.keys(asked.result.inputRequests);
  const answered = await request(server.url, "2026-07-28", "tools/call", {
    ...params,
    inputResponses: { [key!]: { action: "accept", content: { sure: true } } },
    requestState: asked.result.requestState,
  });
  assert.equal(answered.result.content[0].text, "done");
});

test("a 2025 client cannot be asked", async () => {
  const { result } = await request(server.url, "2025-11-25", "tools/call", { name: "confirm", arguments: { action: "go" } });
  assert.match(result.content[0].text, /needs a client that speaks MCP 2026-07-28/);
});
