import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { request, type Answer } from "../../runtime/test/client.ts";
import type { ToolInShort } from "../../runtime/test/generate.ts";
import type { RunningServer } from "../../runtime/test/workerd.ts";
import { start } from "./start.ts";

const NAME_FORM = "{ message: 'Who?', requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } }";

const TOOLS: ToolInShort[] = [
  { name: "plain", body: "return 'plain';" },
  { name: "optional", body: "return `hello ${parameters.name}`;" },
  { name: "required", body: "throw new Error('no luck');" },
  { name: "waits", timeoutMs: 60_000, body: "await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));" },
  {
    name: "asks_two",
    body: `const ask = (key) => ctx.elicit(${NAME_FORM}, { key });\nconst [a, b] = await Promise.all([ask('a'), ask('b')]);\nreturn a.content.name + b.content.name;`,
  },
  { name: "asks_first", body: `const { content } = await ctx.elicit(${NAME_FORM});\nreturn 'hello ' + content.name;` },
  { name: "asks_roots", body: "return ctx.listRoots();" },
  { name: "calls", body: "return (await ctx.callTool('required')).content[0].text;" },
];
const TASKS = { optional: {}, required: { required: true }, waits: {}, asks_two: {}, asks_first: { required: true, askFirst: true }, asks_roots: {} };

let server: RunningServer;
before(async () => void (server = await start(TOOLS, { tasks: TASKS })));
after(() => server?.stop());

const EXTENSION = "io.modelcontextprotocol/tasks";
const CAPABILITIES = "io.modelcontextprotocol/clientCapabilities";

/** A request of a client that knows tasks, and can be asked for a form. */
function send(method: string, params: object): Promise<Answer> {
  const _meta = { [CAPABILITIES]: { elicitation: { form: {} }, extensions: { [EXTENSION]: {} } } };
  return request(server.url, "2026-07-28", method, { ...params, _meta });
}

const call = (name: string, parameters: object = {}, more: object = {}): Promise<Answer> =>
  send("tools/call", { name, arguments: parameters, ...more });

/** The id of the task that a call becomes. */
async function begin(name: string, parameters: object = {}, more: object = {}): Promise<string> {
  const { result } = await call(name, parameters, more);
  assert.equal(result.resultType, "task", JSON.stringify(result));
  return result.taskId;
}

async function until(taskId: string, status: string): Promise<any> {
  for (let looks = 0; looks < 600; looks += 1) {
    const { result } = await send("tasks/get", { taskId });
    if (result.status === status) return result;
    if (["completed", "failed", "cancelled"].includes(result.status)) assert.fail(JSON.stringify(result));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return assert.fail(`task ${taskId} is never ${status}`);
}

test("the extension is declared to clients of 2026 alone", async () => {
  const { result } = await send("server/discover", {});
  assert.deepEqual(result.capabilities.extensions, { [EXTENSION]: {} });
  const clientInfo = { name: "spec", version: "1.0.0" };
  const old = await request(server.url, "2025-11-25", "initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo });
  assert.equal(old.result.capabilities.extensions, undefined);
  assert.equal((await request(server.url, "2025-11-25", "tasks/get", { taskId: "x" })).error.code, -32601);
});

test("a call becomes a task, flat and with nothing of a tool's result", async () => {
  const { result } = await call("optional", { name: "Ada" });
  const { _meta, ...handle } = result;
  assert.deepEqual(Object.keys(handle).sort(), ["createdAt", "lastUpdatedAt", "pollIntervalMs", "resultType", "status", "taskId", "ttlMs"]);
  assert.deepEqual([handle.status, handle.ttlMs], ["working", null]);
  const task = await until(handle.taskId, "completed");
  assert.deepEqual([task.resultType, task.result.content[0].text], ["complete", "hello Ada"]);
  assert.equal(task.ttlMs > 86_400_000, true);
});

test("what is wrong with the arguments is said at once", async () => {
  assert.equal((await call("plain")).result.content[0].text, "plain");
  const { result } = await call("optional", { name: "x".repeat(70_000) }).then(({ error }) => ({ result: error }));
  assert.deepEqual([result.code, /a task takes 65536/.test(result.message)], [-32602, true]);
});

test("a tool's own failure is a result, an error of the protocol is none", async () => {
  const failed = await until(await begin("required"), "completed");
  assert.deepEqual([failed.result.isError, failed.result.content[0].text], [true, "no luck (line 1 of the body)"]);
  const refused = await until(await begin("asks_roots"), "failed");
  assert.deepEqual([refused.error.code, refused.error.data, refused.result], [-32021, { requiredCapabilities: { roots: {} } }, undefined]);
});

test("who does not know tasks gets results, or is told what it lacks", async () => {
  const stranger = (name: string) => request(server.url, "2026-07-28", "tools/call", { name, arguments: {} });
  assert.equal((await stranger("optional")).result.content[0].text, "hello undefined");
  const { status, error } = await stranger("required");
  assert.deepEqual([status, error.code, error.data], [400, -32021, { requiredCapabilities: { extensions: { [EXTENSION]: {} } } }]);
  assert.equal((await stranger("calls")).result.content[0].text, "no luck (line 1 of the body)");
  const taskId = await begin("optional");
  for (const [method, params] of [["tasks/get", {}], ["tasks/cancel", {}], ["tasks/update", { inputResponses: {} }]] as const) {
    const answer = await request(server.url, "2026-07-28", method, { taskId, ...params });
    assert.deepEqual([method, answer.error.code], [method, -32021]);
  }
});

test("an unknown task is an error", async () => {
  for (const [method, params] of [["tasks/get", {}], ["tasks/cancel", {}], ["tasks/update", { inputResponses: {} }]] as const) {
    assert.deepEqual([method, (await send(method, { taskId: "unknown", ...params })).error.code], [method, -32602]);
  }
});

test("a cancelled task stays cancelled", async () => {
  const taskId = await begin("waits");
  for (let times = 0; times < 2; times += 1) {
    const { _meta, ...acknowledged } = (await send("tasks/cancel", { taskId })).result;
    assert.deepEqual(acknowledged, { resultType: "complete" });
    assert.equal((await until(taskId, "cancelled")).result, undefined);
  }
});

test("questions are answered one by one, and only with what fits", async () => {
  const taskId = await begin("asks_two");
  const asked = await until(taskId, "input_required");
  assert.deepEqual(Object.keys(asked.inputRequests).sort(), ["a", "b"]);
  assert.equal(asked.inputRequests.a.method, "elicitation/create");
  const answer = (key: string, name: unknown) =>
    send("tasks/update", { taskId, inputResponses: { [key]: { action: "accept", content: { name } } } });
  for (const [key, name, open] of [["a", 7, ["a", "b"]], ["stranger", "x", ["a", "b"]], ["a", "Ada", ["b"]], ["a", "Bob", ["b"]]] as const) {
    const { _meta, ...acknowledged } = (await answer(key, name)).result;
    assert.deepEqual(acknowledged, { resultType: "complete" });
    assert.deepEqual(Object.keys((await until(taskId, "input_required")).inputRequests).sort(), open);
  }
  await answer("b", "Lovelace");
  assert.equal((await until(taskId, "completed")).result.content[0].text, "AdaLovelace");
});

test("a tool that asks first becomes a task with the answer", async () => {
  const { result: asked } = await call("asks_first");
  assert.deepEqual([asked.resultType, asked.taskId], ["input_required", undefined]);
  const [key] = Object.keys(asked.inputRequests);
  const inputResponses = { [key!]: { action: "accept", content: { name: "Alice" } } };
  const taskId = await begin("asks_first", {}, { inputResponses, requestState: asked.requestState });
  assert.equal((await until(taskId, "completed")).result.content[0].text, "hello Alice");
});

test("a client's tasks are listed to nobody", async () => {
  const taskId = await begin("optional");
  await until(taskId, "completed");
  assert.deepEqual((await call("list_tasks")).result.structuredContent, { tasks: [] });
});

test("calls that ended make room for new ones, after tasks that are nobody's call", async () => {
  const small = await start(TOOLS, { tasks: TASKS, maxTasks: 2 });
  const roomy = server;
  try {
    server = small;
    const first = await begin("optional");
    await until(first, "completed");
    await call("enqueue_task", { tool: "plain" });
    for (let looks = 0; looks < 600; looks += 1) {
      const { counts } = (await call("queue_status")).result.structuredContent;
      if (counts.completed === 2) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const second = await begin("optional");
    await until(second, "completed");
    await until(first, "completed");
    await until(await begin("optional"), "completed");
    assert.equal((await send("tasks/get", { taskId: first })).error.code, -32602);
    await until(second, "completed");
  } finally {
    server = roomy;
    await small.stop();
  }
});

test("a question that nobody answers ends its task", async () => {
  const brief = await start(TOOLS, { tasks: TASKS, ttlMs: 5000 });
  const patient = server;
  try {
    server = brief;
    const taskId = await begin("asks_two");
    await until(taskId, "input_required");
    const { error } = await until(taskId, "failed");
    assert.deepEqual(error, { code: -32603, message: "no answer came within 5000 ms" });
  } finally {
    server = patient;
    await brief.stop();
  }
});
