import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { request, type Answer } from "../../runtime/test/client.ts";
import type { ToolInShort } from "../../runtime/test/generate.ts";
import type { RunningServer } from "../../runtime/test/workerd.ts";
import { start } from "./start.ts";

const TOOLS: ToolInShort[] = [
  { name: "echo", body: "return parameters.text;", inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] } },
  { name: "point", body: "return { x: { y: [1, 2] }, 'a/b': 'slash' };", outputSchema: { type: "object" } },
  { name: "fails", body: "throw new Error('no luck');" },
  { name: "reports", body: "return { isError: true, content: [{ type: 'text', text: 'reported' }] };" },
  { name: "sleeps", body: "await new Promise((resolve) => setTimeout(resolve, 60_000));" },
  { name: "waits", timeoutMs: 60_000, body: "globalThis.begun = true;\nawait new Promise((_, reject) => ctx.signal.addEventListener('abort', () => { globalThis.aborted = true; reject(ctx.signal.reason); }));" },
  { name: "seen", body: "return JSON.stringify({ begun: globalThis.begun ?? false, aborted: globalThis.aborted ?? false, order: globalThis.order ?? [] });" },
  { name: "marks", body: "(globalThis.order ??= []).push(parameters.name);\nreturn 'marked';" },
  { name: "second_time", body: "globalThis.times = (globalThis.times ?? 0) + 1;\nif (globalThis.times % 2 === 1) throw new Error('first time');\nreturn 'second time';" },
  { name: "long", body: "return 'x'.repeat(3000);" },
  { name: "asks", body: "return ctx.elicit({ message: 'Who?', requestedSchema: { type: 'object', properties: {} } });" },
];

let server: RunningServer;

const call = (name: string, parameters: object = {}): Promise<Answer> =>
  request(server.url, "2025-11-25", "tools/call", { name, arguments: parameters });

/** What a tool that has to succeed returns. */
async function use(name: string, parameters: object = {}): Promise<any> {
  const { result, error } = await call(name, parameters);
  assert.equal(error, undefined);
  assert.notEqual(result.isError, true, JSON.stringify(result));
  return result.structuredContent;
}

/** What a tool that has to fail says. */
async function refusal(name: string, parameters: object): Promise<string> {
  const { result } = await call(name, parameters);
  assert.equal(result.isError, true, JSON.stringify(result));
  return result.content[0].text;
}

const enqueue = async (tool: string, more: object = {}): Promise<string> => (await use("enqueue_task", { tool, ...more })).id;

/** Looks at a task until it stands where it should. */
async function until(id: string, ...statuses: string[]): Promise<any> {
  for (let looks = 0; looks < 600; looks += 1) {
    const task = await use("get_task", { id });
    if (statuses.includes(task.status)) return task;
    if (["completed", "failed", "cancelled"].includes(task.status)) assert.fail(JSON.stringify(task));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return assert.fail(`task ${id} is never ${statuses.join(" or ")}: ${JSON.stringify(await use("get_task", { id }))}`);
}

const seen = async () => JSON.parse((await call("seen")).result.content[0].text);

describe("the queue", () => {
  before(async () => void (server = await start(TOOLS, { maxResultBytes: 2048, maxArgumentBytes: 1024, retryDelayMs: 10 })));
  after(() => server?.stop());

  test("a task runs, and its result is kept with its history", async () => {
    const id = await enqueue("echo", { arguments: { text: "hello" } });
    const task = await until(id, "completed");
    assert.equal(task.result.content[0].text, "hello");
    assert.deepEqual(task.arguments, { text: "hello" });
    assert.deepEqual(task.history.map(({ number, outcome }: any) => [number, outcome]), [[1, "completed"]]);
    assert.ok(Date.parse(task.expiresAt) > Date.parse(task.endedAt));
  });

  test("what cannot be enqueued is refused at once", async () => {
    assert.match(await refusal("enqueue_task", { tool: "nothing" }), /there is no tool "nothing" .*echo/);
    assert.match(await refusal("enqueue_task", { tool: "get_task" }), /there is no tool "get_task"/);
    assert.match(await refusal("enqueue_task", { tool: "echo" }), /not what tool echo takes: .*text/);
    assert.match(await refusal("enqueue_task", { tool: "echo", arguments: { text: "x".repeat(2000) } }), /the queue takes 1024/);
    assert.match(await refusal("enqueue_task", { tool: "point", dependsOn: ["no-such-task"] }), /do not exist: no-such-task/);
    assert.match(await refusal("enqueue_task", { tool: "point", retryOn: ["whim"] }), /retryOn/);
    assert.match(await refusal("get_task", { id: "no-such-task" }), /there is no task "no-such-task"/);
    assert.match(await refusal("list_tasks", { cursor: "'; DROP TABLE task" }), /not one that list_tasks gave/);
  });

  test("a task waits for those it depends on, and takes values from their results", async () => {
    const point = await enqueue("point", { delayMs: 300 });
    const text = { $result: point, pointer: "/x/y/1" };
    const wrong = await enqueue("echo", { arguments: { text } });
    const right = await enqueue("echo", { arguments: { text: { $result: point, pointer: "/a~1b" } }, dependsOn: [point] });
    const chained = await enqueue("echo", { arguments: { text: { $result: right } } });
    const [waiting] = (await use("list_tasks", { status: ["waiting"] })).tasks;
    assert.deepEqual(waiting.dependsOn, [right]);
    assert.equal((await until(chained, "completed")).result.content[0].text, "slash");
    // A number is no text, which shows only once it is known.
    assert.equal((await until(wrong, "failed")).error.cause, "arguments");
    const nowhere = await enqueue("echo", { arguments: { text: { $result: point, pointer: "/z" } } });
    assert.deepEqual((await until(nowhere, "failed")).error, {
      cause: "reference",
      message: `the result of task ${point} has nothing at "/z"`,
    });
  });

  test("a task takes no more from results than it may", async () => {
    const text = "x".repeat(900);
    const whole = await enqueue("echo", { arguments: { text } });
    const spread = (count: number) => enqueue("echo", { arguments: { text: "short", all: Array(count).fill({ $result: whole }) } });
    await until(await spread(3), "completed");
    assert.deepEqual((await until(await spread(4), "failed")).error, {
      cause: "reference",
      message: "what the arguments refer to has more than 3072 bytes: refer to less by pointer",
    });
  });

  test("what depends on a failed task is blocked or cancelled, and a retry lets it go on", async () => {
    const first = await enqueue("second_time", { maxAttempts: 1 });
    const blocked = await enqueue("echo", { arguments: { text: "after" }, dependsOn: [first] });
    const behind = await enqueue("echo", { arguments: { text: "behind" }, dependsOn: [blocked] });
    const cancelled = await enqueue("echo", { arguments: { text: "x" }, dependsOn: [first], onDependencyFailure: "cancel" });
    const { error } = await until(first, "failed");
    assert.deepEqual(error, { cause: "threw", message: "first time (line 2 of the body)" });
    assert.equal((await until(blocked, "blocked")).reason, `depends on task ${first}, which is failed`);
    assert.equal((await until(behind, "blocked")).reason, `depends on task ${blocked}, which is blocked`);
    assert.equal((await until(cancelled, "cancelled")).reason, `depends on task ${first}, which is failed`);
    await use("retry_task", { id: first });
    assert.equal((await until(behind, "completed")).result.content[0].text, "behind");
    assert.equal((await until(first, "completed")).history.length, 2);
    assert.match(await refusal("retry_task", { id: first }), /is completed: only one that failed or was cancelled/);
  });

  test("what is retried is waited for again, and what stays blocked is given up in the end", async () => {
    const failed = await enqueue("fails", { maxAttempts: 1 });
    const blocked = await enqueue("point", { dependsOn: [failed], ttlMs: 5000 });
    await until(blocked, "blocked");
    assert.equal((await until(blocked, "cancelled")).reason, `depends on task ${failed}, which is failed`);
    const slow = await enqueue("waits", { maxAttempts: 1 });
    const behind = await enqueue("point", { dependsOn: [slow] });
    await use("cancel_task", { id: slow });
    await until(behind, "blocked");
    await use("retry_task", { id: slow });
    assert.equal((await until(behind, "waiting")).reason, undefined);
    await use("cancel_task", { id: slow });
  });

  test("a failure is retried only where its cause is named, and every attempt is noted", async () => {
    const outcomes = async (tool: string, more: object) => {
      const task = await until(await enqueue(tool, { maxAttempts: 2, ...more }), "failed", "completed");
      return [task.status, ...task.history.map(({ outcome }: any) => outcome)];
    };
    assert.deepEqual(await outcomes("fails", {}), ["failed", "threw"]);
    assert.deepEqual(await outcomes("fails", { retryOn: ["threw"] }), ["failed", "threw", "threw"]);
    assert.deepEqual(await outcomes("fails", { retryOn: ["timeout", "reported"] }), ["failed", "threw"]);
    assert.deepEqual(await outcomes("reports", { retryOn: ["reported"] }), ["failed", "reported", "reported"]);
    assert.deepEqual(await outcomes("sleeps", { retryOn: ["timeout"] }), ["failed", "timeout", "timeout"]);
    assert.deepEqual(await outcomes("long", {}), ["failed", "output"]);
    assert.deepEqual(await outcomes("asks", {}), ["failed", "threw"]);
    assert.deepEqual(await outcomes("second_time", { retryOn: ["threw"] }), ["completed", "threw", "completed"]);
  });

  test("a running task is aborted, one that waits never begins, and one that ended stays", async () => {
    const running = await enqueue("waits");
    const delayed = await enqueue("fails", { delayMs: 60_000 });
    await until(running, "running");
    for (let looks = 0; !(await seen()).begun && looks < 600; looks += 1) await new Promise((resolve) => setTimeout(resolve, 50));
    const cancelled = await use("cancel_task", { id: running, reason: "not needed" });
    assert.deepEqual([cancelled.status, cancelled.reason], ["cancelled", "not needed"]);
    assert.deepEqual(cancelled.history.map(({ outcome, message }: any) => [outcome, message]), [["cancelled", "not needed"]]);
    assert.equal((await seen()).aborted, true);
    assert.equal((await use("cancel_task", { id: delayed })).attempts, 0);
    assert.equal((await use("cancel_task", { id: running })).reason, "not needed");
  });

  test("the same key gives the same task, and none for another", async () => {
    const task = { tool: "echo", arguments: { text: "once" }, idempotencyKey: "key" };
    const first = await use("enqueue_task", task);
    const second = await use("enqueue_task", task);
    assert.deepEqual([first.repeated, second.repeated, second.id], [false, true, first.id]);
    assert.match(await refusal("enqueue_task", { ...task, arguments: { text: "twice" } }), /the idempotency key is that of task/);
  });

  test("tasks are listed newest first, filtered, a page at a time", async () => {
    const ids = [];
    for (const text of ["a", "b", "c"]) ids.unshift(await enqueue("marks", { arguments: { name: text }, delayMs: 3_600_000 }));
    const page = await use("list_tasks", { tool: "marks", status: ["ready"], limit: 2 });
    assert.deepEqual(page.tasks.map(({ id }: any) => id), ids.slice(0, 2));
    const rest = await use("list_tasks", { tool: "marks", status: ["ready"], limit: 2, cursor: page.nextCursor });
    assert.deepEqual(rest.tasks.map(({ id }: any) => id), ids.slice(2));
    assert.equal(rest.nextCursor, undefined);
    for (const id of ids) await use("cancel_task", { id });
  });

  test("the result's time is over after its ttl", async () => {
    const task = { tool: "echo", arguments: { text: "short" }, ttlMs: 5000, idempotencyKey: "short" };
    const { id } = await use("enqueue_task", task);
    await until(id, "completed");
    const keeps = await enqueue("point", { dependsOn: [id], delayMs: 3_600_000 });
    for (let looks = 0; looks < 600; looks += 1) {
      const { result } = await call("get_task", { id });
      if (result.isError) {
        assert.equal((await use("enqueue_task", task)).repeated, false);
        await use("cancel_task", { id: keeps });
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.fail("it is kept");
  });
});

describe("a queue that runs one at a time and keeps five", () => {
  before(async () => void (server = await start(TOOLS, { concurrency: 1, maxTasks: 5 })));
  after(() => server?.stop());

  test("higher priority first, equals in the order they came", async () => {
    const holds = await enqueue("waits");
    await until(holds, "running");
    for (const [name, priority] of [["low", -1], ["first", 0], ["high", 9], ["second", 0]] as const) {
      await enqueue("marks", { arguments: { name }, priority });
    }
    assert.match(await refusal("enqueue_task", { tool: "marks" }), /the queue is full: it keeps 5 tasks/);
    const { counts, kept, maxTasks, concurrency } = await use("queue_status");
    assert.deepEqual([counts, kept, maxTasks, concurrency], [{ ready: 4, running: 1 }, 5, 5, 1]);
    await use("cancel_task", { id: holds });
    const { tasks } = await use("list_tasks", { tool: "marks" });
    for (const { id } of tasks) await until(id, "completed");
    assert.deepEqual((await seen()).order, ["high", "first", "second", "low"]);
  });

  test("what ended first makes room for what is new", async () => {
    const [oldest] = (await use("list_tasks", { tool: "waits" })).tasks;
    await enqueue("marks", { arguments: { name: "new" } });
    assert.match(await refusal("get_task", { id: oldest.id }), /there is no task/);
    assert.equal((await use("queue_status")).kept, 5);
  });

  test("what a new task depends on makes no room for it", async () => {
    const { tasks } = await use("list_tasks");
    for (const { id } of tasks) await until(id, "completed");
    const [newest, ...others] = tasks.toSorted((a: any, b: any) => Date.parse(b.endedAt) - Date.parse(a.endedAt));
    const dependsOn = others.map(({ id }: any) => id);
    await until(await enqueue("marks", { arguments: { name: "next" }, dependsOn }), "completed");
    for (const id of dependsOn) assert.equal((await use("get_task", { id })).status, "completed");
    assert.match(await refusal("get_task", { id: newest.id }), /there is no task/);
  });
});

describe("a tool that runs one call at a time", () => {
  const SINGLE: ToolInShort = {
    name: "single",
    concurrency: 1,
    timeoutMs: 60_000,
    body: "globalThis.at = (globalThis.at ?? 0) + 1;\nconst at = globalThis.at;\nawait new Promise((resolve) => setTimeout(resolve, 50));\nglobalThis.at -= 1;\n(globalThis.order ??= []).push(parameters.name);\nreturn String(at);",
  };
  before(async () => void (server = await start([SINGLE, ...TOOLS], { concurrency: 4 })));
  after(() => server?.stop());

  test("its tasks run one by one, and those of other tools beside them", async () => {
    const ids = [];
    for (const name of ["a", "b", "c"]) ids.push(await enqueue("single", { arguments: { name } }));
    const other = await enqueue("waits");
    await until(other, "running");
    for (const id of ids) {
      const task = await until(id, "completed");
      assert.deepEqual([task.result.content[0].text, task.attempts], ["1", 1]);
    }
    assert.deepEqual((await seen()).order, ["a", "b", "c"]);
  });

  test("a slot that a caller holds is no attempt", async () => {
    const calling = call("single", { name: "caller" });
    const task = await until(await enqueue("single", { arguments: { name: "task" } }), "completed");
    assert.deepEqual([task.attempts, task.history.length], [1, 1]);
    await calling;
  });
});
