import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";
import { result, startUpstream, stream, type FakeUpstream } from "./fake-upstream.ts";
import { eventually, startRouter, type Router } from "./router.ts";

let router: Router | undefined;
let fakes: FakeUpstream[] = [];

async function upstream(era: "modern" | "legacy", tools: FakeUpstream["tools"]): Promise<FakeUpstream> {
  const fake = await startUpstream(era, tools);
  fakes.push(fake);
  return fake;
}

afterEach(async () => {
  await router?.stop();
  await Promise.all(fakes.map((fake) => fake.stop()));
  router = undefined;
  fakes = [];
});

for (const era of ["modern", "legacy"] as const) {
  describe(`an upstream of the ${era} era`, () => {
    test("its tools are listed behind the server's own, and called by their own names", async () => {
      const database = await upstream(era, [
        { name: "query", description: "Asks.", annotations: { readOnlyHint: true, title: "Query" }, _meta: { secret: 1 }, icons: [] },
      ]);
      router = await startRouter({ tools: [{ name: "own", body: "return 'mine';" }], upstreams: [{ name: "db", urls: [database.url] }] });
      assert.deepEqual(await router.names(), ["own", "route_status", "db_query"]);
      assert.deepEqual((await router.list())[2], {
        name: "db_query",
        description: "Asks.",
        inputSchema: { type: "object" },
        annotations: { readOnlyHint: true, title: "Query" },
      });
      const { result: answer } = await router.call("db_query", { text: "x" });
      assert.deepEqual(answer.content, [{ type: "text", text: "done" }]);
      const { params } = database.seen.find(({ method }) => method === "tools/call")!;
      assert.deepEqual([params.name, params.arguments], ["query", { text: "x" }]);
    });

    test("agreeing is done once, and again when a session is lost", async () => {
      const database = await upstream(era, [{ name: "query" }]);
      router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }] });
      for (let n = 0; n < 3; n += 1) assert.equal(await router.text("db_query"), "done");
      const first = era === "modern" ? ["server/discover"] : ["server/discover", "initialize", "notifications/initialized"];
      assert.deepEqual(database.seen.map(({ method }) => method), [...first, "tools/list", "tools/call", "tools/call", "tools/call"]);

      database.forgetSessions();
      assert.equal(await router.text("db_query"), "done");
    });

    test("an answer may be an event stream, and its progress is passed on", async () => {
      const database = await upstream(era, [{ name: "query" }]);
      database.behave = (seen, response) => {
        if (seen.method !== "tools/call") return false;
        const { progressToken } = seen.params._meta;
        stream(response, [
          { jsonrpc: "2.0", method: "notifications/message", params: { level: "info", data: "ignored" } },
          { jsonrpc: "2.0", method: "notifications/progress", params: { progressToken, progress: 1, total: 2, message: "half" } },
          { jsonrpc: "2.0", id: seen.id, result: { content: [{ type: "text", text: "streamed" }] } },
        ]);
      };
      router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }] });
      const { messages } = await router.call("db_query", {}, { _meta: { progressToken: 7 } });
      assert.deepEqual(messages[0].params, { progressToken: 7, progress: 1, total: 2, message: "half" });
      assert.equal(messages.at(-1).result.content[0].text, "streamed");
    });
  });
}

test("bodies call the tools of upstreams", async () => {
  const database = await upstream("modern", [{ name: "query" }]);
  const body = "const { content } = await ctx.callTool('db_query', {}); return content[0].text + ' by a body';";
  router = await startRouter({ tools: [{ name: "own", body }], upstreams: [{ name: "db", urls: [database.url] }] });
  assert.equal(await router.text("own"), "done by a body");
});

test("results keep their structured content, and errors stay errors", async () => {
  const database = await upstream("modern", [{ name: "query", outputSchema: { type: "object" } }]);
  database.behave = (seen, response) => {
    if (seen.method !== "tools/call") return false;
    result(response, seen, { content: [{ type: "text", text: "no" }], structuredContent: { rows: 3 }, isError: true });
  };
  router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }] });
  const { result: answer } = await router.call("db_query");
  assert.deepEqual([answer.isError, answer.structuredContent], [true, { rows: 3 }]);
});

test("names that are taken are hidden: the server's own come first, then the upstreams in their order", async () => {
  const first = await upstream("modern", [{ name: "Own" }, { name: "shared" }, { name: "route_status" }]);
  const second = await upstream("modern", [{ name: "SHARED" }, { name: "rest" }]);
  router = await startRouter({
    tools: [{ name: "own", body: "return 'mine';" }],
    upstreams: [
      { name: "first", urls: [first.url], prefix: "" },
      { name: "second", urls: [second.url], prefix: "" },
    ],
  });
  assert.deepEqual(await router.names(), ["own", "route_status", "shared", "rest"]);
  const [one, two] = (await router.call("route_status")).result.structuredContent.upstreams;
  assert.deepEqual(one.hidden, [
    { name: "Own", reason: '"Own" is taken by this server itself: choose another prefix' },
    { name: "route_status", reason: '"route_status" is taken by this server itself: choose another prefix' },
  ]);
  assert.deepEqual(two.hidden, [{ name: "SHARED", reason: '"SHARED" is taken by upstream "first": choose another prefix' }]);
});

test("only tools that are what was accepted are served", async () => {
  const pin = createHash("sha256").update('{"description":"Asks.","inputSchema":{"type":"object"},"name":"query"}').digest("hex");
  const tools = [{ name: "query", description: "Asks.", icons: [] }, { name: "toString" }];
  const database = await upstream("modern", tools);
  router = await startRouter({ refreshMs: 1000, upstreams: [{ name: "db", urls: [database.url], pins: { query: pin } }] });
  assert.deepEqual(await router.names(), ["route_status", "db_query"]);
  database.tools[0]!.description = "Asks for more.";
  await eventually("the changed tool is hidden", async () => (await router!.names()).length === 1);
  assert.deepEqual((await router.status()).hidden, [
    { name: "query", reason: "it is not what was accepted; look at it, accept it and deploy this server again" },
    { name: "toString", reason: "it is new; look at it, accept it and deploy this server again" },
  ]);
  assert.equal(await router.text("db_query"), "protocol error: Tool db_query not found");
});

test("a tool that is not what was accepted any more is not called, though nobody lists tools", async () => {
  const pin = createHash("sha256").update('{"description":"Asks.","inputSchema":{"type":"object"},"name":"query"}').digest("hex");
  const database = await upstream("modern", [{ name: "query", description: "Asks." }]);
  router = await startRouter({ refreshMs: 1000, upstreams: [{ name: "db", urls: [database.url], pins: { query: pin } }] });
  assert.equal(await router.text("db_query"), "done");
  database.tools[0]!.description = "Asks for more.";
  await eventually("the call is refused", async () => (await router!.text("db_query")) === "protocol error: Tool db_query not found");
});

test("only allowed tools are served", async () => {
  const database = await upstream("modern", [{ name: "query" }, { name: "drop" }]);
  router = await startRouter({ upstreams: [{ name: "db", urls: [database.url], tools: ["query", "gone"] }] });
  assert.deepEqual(await router.names(), ["route_status", "db_query"]);
  assert.equal(await router.text("db_drop"), "protocol error: Tool db_drop not found");
  assert.deepEqual((await router.status()).missing, ["gone"]);
});

test("a secret is sent in the header that names it, and the caller's credentials never are", async () => {
  const database = await upstream("modern", [{ name: "query" }]);
  router = await startRouter({
    secrets: { TOKEN: "s3cret", KEY: "plain" },
    upstreams: [
      { name: "db", urls: [database.url], headers: { Authorization: { secret: "TOKEN", scheme: "Bearer" }, "X-Key": { secret: "KEY" } } },
    ],
  });
  assert.equal(await router.text("db_query"), "done");
  for (const { headers } of database.seen) assert.deepEqual([headers.authorization, headers["x-key"]], ["Bearer s3cret", "plain"]);
});

test("a secret that is not set is named", async () => {
  const database = await upstream("modern", [{ name: "query" }]);
  router = await startRouter({ upstreams: [{ name: "db", urls: [database.url], headers: { Authorization: { secret: "TOKEN" } } }] });
  assert.match(await router.text("db_query"), /^error: upstream "db" has not listed its tools yet: .* needs the secret TOKEN, which is not set$/);
  assert.equal(database.seen.length, 0);
});

test("arguments that the newer era wants in headers are sent there too", async () => {
  const inputSchema = {
    type: "object",
    properties: { region: { type: "string", "x-mcp-header": "Region" }, deep: { type: "object", properties: { n: { type: "integer", "x-mcp-header": "N" } } } },
  };
  const database = await upstream("modern", [{ name: "query", inputSchema }]);
  router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }] });
  assert.equal(await router.text("db_query", { region: "münchen", deep: { n: 7 } }), "done");
  const { headers } = database.seen.find(({ method }) => method === "tools/call")!;
  assert.equal(headers["mcp-param-region"], `=?base64?${Buffer.from("münchen").toString("base64")}?=`);
  assert.equal(headers["mcp-param-n"], "7");
});

describe("changes of an upstream", () => {
  let database: FakeUpstream;
  before(async () => {
    database = await startUpstream("modern", [{ name: "query" }, { name: "drop" }]);
  });
  after(() => database.stop());

  test("are seen once the list is old, and told", async () => {
    router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }], refreshMs: 100 });
    assert.deepEqual(await router.names(), ["route_status", "db_query", "db_drop"]);
    database.tools = [{ name: "query", description: "Changed." }, { name: "insert" }];
    await eventually("the new list", async () => (await router!.names()).join() === "route_status,db_query,db_insert");
    const [change] = (await router.status()).changes;
    assert.deepEqual([change.added, change.removed, change.changed], [["insert"], ["drop"], ["query"]]);
  });

  test("are seen when a call shows them, however new the list is", async () => {
    database.tools = [{ name: "query" }, { name: "drop" }];
    router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }], refreshMs: 3_600_000 });
    assert.deepEqual(await router.names(), ["route_status", "db_query", "db_drop"]);
    database.tools = [{ name: "query" }];
    assert.equal(await router.text("db_drop"), 'error: upstream "db" has no tool "drop" any more: list the tools again');
    assert.deepEqual(await router.names(), ["route_status", "db_query"]);
  });
});

test("errors of an upstream name it", async () => {
  const database = await upstream("modern", [{ name: "query" }]);
  router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }] });
  await router.names();
  database.behave = (seen, response) => void response.writeHead(400, { "content-type": "application/json" }).end(
    JSON.stringify({ jsonrpc: "2.0", id: seen.id, error: { code: -32000, message: "no \u202esuch\n table" } }),
  );
  assert.equal(await router.text("db_query"), 'error: upstream "db" answered with an error: no  such  table (code -32000)');
  assert.equal((await router.status()).replicas[0].breaker, "closed");
});
