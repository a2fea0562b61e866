import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { error, result, startUpstream, type FakeTool, type FakeUpstream } from "./fake-upstream.ts";
import { eventually, startRouter, type Router, type RouterInShort, type UpstreamInShort } from "./router.ts";

let router: Router | undefined;
let replicas: FakeUpstream[] = [];

const READ = { name: "read", annotations: { readOnlyHint: true } };
const WRITE = { name: "write" };

/** A router over so many replicas of one upstream, `db`, whose tools it has listed. */
async function routerOver(count: number, upstream: Partial<UpstreamInShort>, more: Partial<RouterInShort> = {}): Promise<Router> {
  const tools: FakeTool[] = [READ, WRITE];
  replicas = await Promise.all(Array.from({ length: count }, () => startUpstream("modern", tools)));
  const urls = replicas.map(({ url }) => url);
  router = await startRouter({ upstreams: [{ name: "db", urls, ...upstream }], ...more });
  await router.names();
  return router;
}

/** Every call is answered with this. */
function answering(replica: FakeUpstream, status: number): void {
  replica.behave = (seen, response) => (seen.method === "tools/call" ? void response.writeHead(status).end() : false);
}

const calls = () => replicas.map((replica) => replica.calls());

async function callTimes(count: number, tool: string): Promise<void> {
  for (let n = 0; n < count; n += 1) assert.equal(await router!.text(tool), "done");
}

afterEach(async () => {
  await router?.stop();
  await Promise.all(replicas.map((replica) => replica.stop()));
  router = undefined;
});

describe("strategies", () => {
  test("round-robin gives each replica its share", async () => {
    await routerOver(3, { strategy: "round-robin" });
    await callTimes(9, "db_read");
    assert.deepEqual(calls(), [3, 3, 3]);
  });

  test("failover stays with the first that works", async () => {
    await routerOver(3, { strategy: "failover" });
    await callTimes(4, "db_read");
    assert.deepEqual(calls(), [4, 0, 0]);
    answering(replicas[0]!, 503);
    await callTimes(4, "db_read");
    assert.deepEqual(calls(), [5, 4, 0]);
  });

  test("least-latency measures all and stays with the fastest", async () => {
    await routerOver(2, { strategy: "least-latency" });
    const slow = replicas[0]!;
    slow.behave = (seen, response) => {
      if (seen.method !== "tools/call") return false;
      setTimeout(() => result(response, seen, { content: [{ type: "text", text: "done" }] }), 1500);
    };
    await callTimes(8, "db_read");
    assert.ok(slow.calls() < replicas[1]!.calls(), `${calls()}`);
    const status = await router!.status();
    assert.ok(status.replicas[0].latencyMs > status.replicas[1].latencyMs);
  });
});

describe("a failed call", () => {
  for (const status of [503, 429, 401, 404]) {
    test(`that was certainly not carried out (${status}) goes to another replica`, async () => {
      await routerOver(2, { strategy: "failover" });
      answering(replicas[0]!, status);
      await callTimes(1, "db_write");
      assert.deepEqual(calls()[1], 1);
    });
  }

  test("that a gateway answers with an error of its own goes to another replica", async () => {
    await routerOver(2, { strategy: "failover" });
    replicas[0]!.behave = (seen, response) => error(response, seen, -32603, "there is no server of this name", 404);
    await callTimes(1, "db_write");
    assert.equal(calls()[1], 1);
    assert.match((await router!.status()).replicas[0].lastFailure.message, /^answered HTTP 404: there is no server of this name$/);
  });

  test("that may have been carried out is repeated for a tool that reads", async () => {
    await routerOver(2, { strategy: "failover" });
    answering(replicas[0]!, 500);
    await callTimes(1, "db_read");
    assert.deepEqual(calls(), [1, 1]);
  });

  test("that may have been carried out is not repeated for one that writes", async () => {
    await routerOver(2, { strategy: "failover" });
    answering(replicas[0]!, 500);
    assert.match(await router!.text("db_write"), /answered HTTP 500; the call may have been carried out, and was not repeated/);
    assert.deepEqual(calls(), [1, 0]);
    // The next one goes to the replica that did not just fail.
    await callTimes(1, "db_write");
    assert.deepEqual(calls(), [1, 1]);
  });

  test("of a tool that writes is not made to a replica that a check finds gone", async () => {
    await routerOver(2, { strategy: "round-robin" });
    // The list came from the first; the second was never asked for anything.
    await replicas[1]!.stop();
    await callTimes(4, "db_write");
    assert.equal(calls()[0], 4);
  });
});

describe("the circuit breaker", () => {
  const breaker = { failures: 1, openMs: 300 };

  test("opens after failures in a row, and the calls then fail at once", async () => {
    await routerOver(1, {}, { breaker: { failures: 2, openMs: 60_000 } });
    answering(replicas[0]!, 500);
    for (let n = 0; n < 2; n += 1) assert.match(await router!.text("db_read"), /answered HTTP 500$/);
    assert.match(await router!.text("db_read"), /^error: upstream "db" is down, and is asked again in \d+ s: replica 0 \(127\.0\.0\.1:\d+\) answered HTTP 500$/);
    assert.equal(replicas[0]!.calls(), 2);
    const status = await router!.status();
    assert.deepEqual([status.state, status.replicas[0].breaker, status.replicas[0].failures], ["down", "open", 2]);
    assert.ok(Date.parse(status.replicas[0].nextCheckAt) > Date.now());
  });

  test("too many requests are no failure", async () => {
    await routerOver(1, {}, { breaker: { failures: 1, openMs: 60_000 } });
    answering(replicas[0]!, 429);
    for (let n = 0; n < 3; n += 1) assert.match(await router!.text("db_read"), /takes no requests now \(HTTP 429\)/);
    assert.equal((await router!.status()).replicas[0].breaker, "closed");
  });

  test("closes again when a check finds the replica back, and no call is lost to find that out", async () => {
    await routerOver(2, { strategy: "failover" }, { breaker });
    const [first] = replicas;
    first!.behave = (_, response) => void response.writeHead(500).end();
    for (let n = 0; n < 4; n += 1) assert.equal(await router!.text("db_read"), "done");
    const made = first!.calls();
    assert.equal(made, 1);
    await eventually("a check of the first replica", async () => {
      assert.equal(await router!.text("db_write"), "done");
      return first!.seen.filter(({ method }) => method === "server/discover").length > 1;
    });
    assert.equal(first!.calls(), made);

    first!.behave = undefined;
    await eventually("a call to the first replica", async () => {
      assert.equal(await router!.text("db_write"), "done");
      return first!.calls() > made;
    });
    assert.equal((await router!.status()).state, "up");
  });

  test("a check that is asked for closes it at once", async () => {
    await routerOver(1, {}, { breaker: { failures: 1, openMs: 60_000 } });
    answering(replicas[0]!, 500);
    await router!.text("db_read");
    assert.equal((await router!.status()).state, "down");
    replicas[0]!.behave = undefined;
    assert.equal((await router!.status({ check: true })).state, "up");
    await callTimes(1, "db_read");
  });
});

test("an upstream of no such name is an error that knows better", async () => {
  await routerOver(1, {});
  assert.equal(await router!.text("route_status", { upstream: "bd" }), 'error: there is no upstream "bd"; known: "db"');
});

test("clients that come together wait for one list", async () => {
  const tools: FakeTool[] = [READ];
  replicas = [await startUpstream("modern", tools)];
  router = await startRouter({ upstreams: [{ name: "db", urls: [replicas[0]!.url] }] });
  const lists = await Promise.all(Array.from({ length: 8 }, () => router!.names()));
  for (const names of lists) assert.deepEqual(names, ["route_status", "db_read"]);
  assert.equal(replicas[0]!.seen.filter(({ method }) => method === "tools/list").length, 1);
});
