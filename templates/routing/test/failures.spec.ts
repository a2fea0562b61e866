import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { afterEach, describe, test } from "node:test";
import { reply, result, startUpstream, stream, type FakeTool, type FakeUpstream, type Seen } from "./fake-upstream.ts";
import { startRouter, type Router } from "./router.ts";

let router: Router | undefined;
let fakes: FakeUpstream[] = [];

async function upstream(tools: FakeTool[] = [{ name: "query" }]): Promise<FakeUpstream> {
  const fake = await startUpstream("modern", tools);
  fakes.push(fake);
  return fake;
}

/** A router whose first list is there, before its upstream's calls begin to fail. */
async function routerOver(fake: FakeUpstream, calls: FakeUpstream["behave"], more: object = {}): Promise<Router> {
  router = await startRouter({ upstreams: [{ name: "db", urls: [fake.url], ...more }] });
  await router.names();
  fake.behave = (seen, response) => (seen.method === "tools/call" ? calls?.(seen, response) : false);
  return router;
}

/** For calls that have to run out of time. */
const SLOW = { timeoutMs: 500 };

afterEach(async () => {
  await router?.stop();
  await Promise.all(fakes.map((fake) => fake.stop()));
  router = undefined;
  fakes = [];
});

describe("an upstream that is not there", () => {
  test("is left out of the list, and its calls say so", async () => {
    const gone = await upstream();
    const other = await upstream([{ name: "find" }]);
    await gone.stop();
    router = await startRouter({
      upstreams: [
        { name: "db", urls: [gone.url] },
        { name: "search", urls: [other.url] },
      ],
    });
    assert.deepEqual(await router.names(), ["route_status", "search_find"]);
    assert.equal(await router.text("search_find"), "done");
    assert.match(await router.text("db_query"), /^error: upstream "db" has not listed its tools yet: replica 0 \(127\.0\.0\.1:\d+\) broke the connection or does not listen/);
    const status = await router.status();
    assert.equal(status.state, "down");
    assert.match(status.listFailure, /does not listen/);
    assert.equal(await router.text("nothing_like_it"), "protocol error: Tool nothing_like_it not found");
  });

  test("keeps the tools that it had", async () => {
    const database = await upstream();
    router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }], refreshMs: 100 });
    await router.names();
    await database.stop();
    assert.match(await router.text("db_query"), /^error: upstream "db" did not answer the call of "query": .*; the call may have been carried out/);
    assert.deepEqual(await router.names(), ["route_status", "db_query"]);
    assert.equal((await router.status()).state, "down");
  });
});

describe("an upstream that is slow", () => {
  test("to list is left out, and the list does not wait for it", async () => {
    const database = await upstream();
    const other = await upstream([{ name: "find" }]);
    database.behave = () => {};
    router = await startRouter({
      upstreams: [
        { name: "db", urls: [database.url] },
        { name: "search", urls: [other.url] },
      ],
    });
    assert.deepEqual(await router.names(), ["route_status", "search_find"]);
    assert.match((await router.status()).listFailure, /did not answer in time/);
  });

  test("to answer is given up", async () => {
    const database = await upstream();
    await routerOver(database, () => {}, SLOW);
    assert.match(await router!.text("db_query"), /did not answer in time; the call may have been carried out, and was not repeated/);
  });

  test("in the middle of an answer is given up", async () => {
    const database = await upstream();
    await routerOver(database, (_, response) => void response.writeHead(200, { "content-type": "text/event-stream" }).write("data: {"), SLOW);
    assert.match(await router!.text("db_query"), /did not answer in time/);
  });

  test("without an end is given up", async () => {
    const database = await upstream();
    const timers: NodeJS.Timeout[] = [];
    await routerOver(database, (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      timers.push(setInterval(() => response.write(": still here\n\n"), 20));
    }, SLOW);
    assert.match(await router!.text("db_query"), /did not answer in time/);
    timers.forEach(clearInterval);
  });
});

/** What an upstream may answer to a call, and what the caller is told. */
const LIES: [what: string, calls: (seen: Seen, response: ServerResponse) => void, told: RegExp][] = [
  ["no JSON", (_, response) => void response.writeHead(200, { "content-type": "application/json" }).end("<html>"), /what is not JSON/],
  ["no JSON-RPC", (_, response) => reply(response, 200, [1]), /no JSON-RPC message/],
  ["HTML", (_, response) => void response.writeHead(200, { "content-type": "text/html" }).end("hello"), /text\/html, which is neither JSON nor an event stream/],
  ["another id", (seen, response) => reply(response, 200, { jsonrpc: "2.0", id: seen.id! + 1, result: {} }), /answered another request/],
  ["neither result nor error", (seen, response) => reply(response, 200, { jsonrpc: "2.0", id: seen.id }), /neither result nor error/],
  ["no result of a tool", (seen, response) => result(response, seen, { content: "hello" }), /no result of a tool/],
  ["blocks that are none", (seen, response) => result(response, seen, { content: [1] }), /no result of a tool/],
  ["blocks of no known kind", (seen, response) => result(response, seen, { content: [{ type: "hologram" }] }), /returned an invalid MCP result/],
  ["a question", (seen, response) => result(response, seen, { resultType: "input_required", inputRequests: {} }), /it asks for input of its client/],
  ["an empty stream", (_, response) => stream(response, []), /ended its event stream without an answer/],
  ["a redirect", (_, response) => void response.writeHead(307, { location: "http://elsewhere.example/mcp" }).end(), /redirects to elsewhere\.example/],
  ["401", (_, response) => void response.writeHead(401).end(), /does not accept its credentials \(HTTP 401\)/],
  ["500", (_, response) => void response.writeHead(500).end("secret trace"), /answered HTTP 500/],
  ["a broken body", (_, response) => void (response.writeHead(200, { "content-type": "application/json" }), response.write("{", () => response.destroy())), /broke the connection/],
  ["too much", (seen, response) => result(response, seen, { content: [{ type: "text", text: "x".repeat(70_000) }] }), /answered with more than 65536 bytes/],
  [
    "too much in a stream",
    (seen, response) => stream(response, Array.from({ length: 700 }, () => ({ jsonrpc: "2.0", method: "notifications/x", params: { text: "x".repeat(100) } }))),
    /answered with more than 65536 bytes/,
  ],
];

describe("an upstream that answers a call with", () => {
  for (const [what, calls, told] of LIES) {
    test(`${what}: the caller is told`, async () => {
      const database = await upstream();
      await routerOver(database, calls);
      const text = await router!.text("db_query");
      assert.match(text, /^error: /);
      assert.match(text, told);
      assert.doesNotMatch(text, /secret trace|undefined/);
      assert.equal(database.calls(), 1);
    });
  }
});

describe("tools that lie", () => {
  const hidden: [what: string, tool: FakeTool, reason: RegExp][] = [
    ["a name with a space", { name: "a b" }, /its name is not/],
    ["no name", { name: 7 as never }, /its name is not/],
    ["a schema of a list", { name: "x", inputSchema: { type: "array" } }, /its inputSchema/],
    ["no schema", { name: "x", inputSchema: "{}" }, /its inputSchema/],
    ["a description that is no text", { name: "x", description: 7 as never }, /its description/],
    ["a hidden direction", { name: "x", description: "safe \u202e elifeteled" }, /U\+202E/],
    ["a mark of direction", { name: "x", title: "safe\u061c" }, /U\+061C/],
    ["a space without width", { name: "x", description: "ig\u200bnore" }, /U\+200B/],
    ["a joiner that joins nothing", { name: "x", description: "a\u200db" }, /U\+200D/],
    ["invisible tags in a schema", { name: "x", inputSchema: { type: "object", properties: { a: { description: "a\u{e0041}" } } } }, /U\+E0041/],
    ["a title of control characters", { name: "x", title: "a\u001b[2J" }, /U\+001B/],
    ["a huge description", { name: "x", description: "x".repeat(20_000) }, /its description/],
    ["a huge schema", { name: "x", inputSchema: { type: "object", description: "x".repeat(70_000) } }, /longer than/],
    ["a deep schema", { name: "x", inputSchema: JSON.parse(`{"type":"object","not":${'{"not":'.repeat(60)}{}${"}".repeat(60)}}`) }, /nests deeper/],
    ["a name that the prefix makes too long", { name: "x".repeat(62) }, /longer than 64/],
  ];

  for (const [what, tool, reason] of hidden) {
    test(`${what}: the tool is hidden, and the others are served`, async () => {
      const database = await upstream([tool, { name: "query" }]);
      router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }] });
      assert.deepEqual(await router.names(), ["route_status", "db_query"]);
      assert.match((await router.status()).hidden[0].reason, reason);
    });
  }

  const refused: [what: string, behave: (seen: Seen, response: ServerResponse) => boolean | void, told: RegExp][] = [
    ["no list", (seen, response) => result(response, seen, { tools: {} }), /what is no list/],
    ["a list without end", (seen, response) => result(response, seen, { tools: [], nextCursor: "again" }), /more than 32 pages/],
    [
      "too many tools",
      (seen, response) => result(response, seen, { tools: Array.from({ length: 600 }, (_, n) => ({ name: `t${n}`, inputSchema: { type: "object" } })) }),
      /more than 512 tools/,
    ],
  ];
  for (const [what, behave, told] of refused) {
    test(`${what}: the upstream is left out`, async () => {
      const database = await upstream();
      database.behave = (seen, response) => (seen.method === "tools/list" ? behave(seen, response) : false);
      router = await startRouter({ upstreams: [{ name: "db", urls: [database.url] }] });
      assert.deepEqual(await router.names(), ["route_status"]);
      assert.match((await router.status()).listFailure, told);
    });
  }
});
