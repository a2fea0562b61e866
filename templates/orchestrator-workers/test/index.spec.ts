import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { request, type Answer } from "../../runtime/test/client.ts";
import { generatedSample } from "../../runtime/test/sample.ts";
import { startServer, type RunningServer } from "../../runtime/test/workerd.ts";

const folder = join(process.cwd(), "orchestrator-workers");
const sample = JSON.parse(await readFile(join(folder, "sample.json"), "utf8"));
let server: RunningServer;

before(async () => {
  server = await startServer(join(folder, "src", "index.ts"), await generatedSample(folder));
});
after(() => server?.stop());

function send(name: string, parameters: object, meta: object = {}): Promise<Answer> {
  return request(server.url, "2026-07-28", "tools/call", { name, arguments: parameters, ...meta });
}

async function call(name: string, parameters: object = {}): Promise<any> {
  const { result } = await send(name, parameters);
  assert.notEqual(result.isError, true, result.content[0].text);
  return result.structuredContent;
}

async function refusal(name: string, parameters: object = {}): Promise<string> {
  const { result } = await send(name, parameters);
  assert.equal(result.isError, true, JSON.stringify(result));
  return result.content[0].text;
}

/** What comes of a job on a server of its own, whose definition differs. */
async function runOnChanged(job: object, change: (definition: any) => void): Promise<any> {
  const generated = await generatedSample(folder);
  change(generated.definition);
  const changed = await startServer(join(folder, "src", "index.ts"), generated);
  try {
    const parameters = { name: "run_job", arguments: { waitSeconds: 120, ...job } };
    const { result } = await request(changed.url, "2026-07-28", "tools/call", parameters);
    assert.notEqual(result.isError, true, result.content[0].text);
    return result.structuredContent;
  } finally {
    await changed.stop();
  }
}

/** A job, waited for until long past anything that works. */
const run = (job: object) => call("run_job", { waitSeconds: 120, ...job });
const measure = (...words: string[]) => words.map((word) => ({ tool: "measure", arguments: { word } }));
const wait = (count: number, milliseconds: number) => Array.from({ length: count }, () => ({ tool: "wait", arguments: { milliseconds } }));

test("the aggregator gets what every sub-task gave, failures beside results", async () => {
  const view = await run({ subtasks: measure("one", "throw", "three") });
  assert.deepEqual([view.status, view.result], ["completed", { letters: 8, of: 3 }]);
  assert.deepEqual(view.progress, { waiting: 0, running: 0, succeeded: 2, failed: 1, cancelled: 0 });
  const [failed, ...more] = view.failures;
  assert.deepEqual([failed, more], [
    { index: 1, tool: "measure", ok: false, reason: "threw", error: "no word (line 2 of the body)", attempts: 3 },
    [],
  ]);
});

test("who waits for a job takes no place that its steps need", async () => {
  const { status } = await runOnChanged({ subtasks: measure("one"), deadlineSeconds: 60 }, (definition) => {
    definition.limits.concurrency = 1;
  });
  assert.equal(status, "completed");
});

test("a plan that its tools' defaults make larger than a row is done", async () => {
  const words = Array.from({ length: 300 }, () => "word").join(" ");
  const view = await runOnChanged({ input: { text: words }, deadlineSeconds: 60 }, (definition) => {
    const { inputSchema } = definition.tools.find(({ name }: any) => name === "measure");
    inputSchema.properties.padding = { type: "string", default: "x".repeat(60_000) };
  });
  assert.deepEqual([view.status, view.result], ["completed", { letters: 1200, of: 300 }], view.error);
});

test("the planner makes the sub-tasks of an input", async () => {
  const view = await run({ input: { text: "a planner splits" } });
  assert.deepEqual([view.status, view.result], ["completed", { letters: 14, of: 3 }]);
  const { subtasks } = await call("list_subtasks", { job: view.job });
  assert.deepEqual(subtasks.map(({ arguments: given }: any) => given.word), ["a", "planner", "splits"]);
});

test("an input that makes no sub-tasks is aggregated as it is", async () => {
  assert.deepEqual((await run({ input: { text: "" } })).result, { letters: 0, of: 0 });
});

test("a plan with mistakes fails the job and says all of them", async () => {
  const view = await run({ input: { text: "badly planned" } });
  assert.equal(view.status, "failed");
  assert.match(view.error, /^split failed: the planner returned a plan with mistakes:\n\/subtasks\/0\/tool: "nobody" is none of the workers: measure, flaky, wait, large\n\/subtasks\/1\/arguments: /);
});

test("a sub-task is tried again as often as the options say", async () => {
  const subtasks = [2, 3].map((failures) => ({ tool: "flaky", arguments: { key: `retry-${failures}`, failures } }));
  const view = await run({ subtasks });
  const { subtasks: ended } = await call("list_subtasks", { job: view.job });
  assert.deepEqual(ended.map(({ value, error, attempts }: any) => [value, error, attempts]), [
    ["after 3", undefined, 3],
    [undefined, "try 3 (line 4 of the body)", 3],
  ]);
});

test("no more steps run at a time than the options allow", async () => {
  const view = await run({ subtasks: wait(12, 200) });
  const { subtasks } = await call("list_subtasks", { job: view.job });
  assert.equal(Math.max(...subtasks.map(({ value }: any) => value.most)), sample.options.concurrency);
});

test("who waits is told how far the job is", async () => {
  const { messages } = await send("run_job", { subtasks: wait(8, 400), waitSeconds: 120 }, { _meta: { progressToken: "p" } });
  const told = messages.flatMap(({ method, params }) => (method === "notifications/progress" ? [params] : []));
  assert.ok(told.length > 0);
  assert.ok(told.every(({ total, message }) => total === 8 && message === "working, 0 failed"), JSON.stringify(told));
  assert.deepEqual(told.map(({ progress }) => progress), told.map(({ progress }) => progress).sort((a, b) => a - b));
});

test("a job goes on when nobody waits, and is cancelled with what runs", async () => {
  const view = await call("run_job", { subtasks: wait(6, 25_000), waitSeconds: 0 });
  assert.equal(view.status, "working");
  const cancelled = await call("cancel_job", { job: view.job });
  assert.deepEqual([cancelled.status, cancelled.progress.cancelled], ["cancelled", 6]);
  assert.match(await refusal("cancel_job", { job: view.job }), /is cancelled already$/);
  // Its places are free again.
  assert.equal((await run({ subtasks: measure("free") })).status, "completed");
});

test("a job that takes longer than its deadline fails", async () => {
  const view = await run({ subtasks: wait(1, 25_000), deadlineSeconds: 1 });
  assert.deepEqual([view.status, view.error, view.progress.cancelled], ["failed", "the job did not end within its 1 seconds", 1]);
});

test("jobs share the places", async () => {
  const large = await call("run_job", { subtasks: wait(100, 200), waitSeconds: 0 });
  assert.equal((await run({ subtasks: measure("small") })).status, "completed");
  const { status, progress } = await call("cancel_job", { job: large.job });
  assert.equal(status, "cancelled");
  assert.ok(progress.cancelled > 0, JSON.stringify(progress));
});

test("an aggregator that fails fails the job, whose results stay", async () => {
  const view = await run({ subtasks: measure("unjoinable") });
  assert.deepEqual([view.status, view.error], ["failed", "join failed: cannot join (line 2 of the body)"]);
  const { subtasks } = await call("list_subtasks", { job: view.job });
  assert.deepEqual(subtasks[0].value, { word: "unjoinable", length: 10 });
});

test("a job all of whose sub-tasks fail, fails", async () => {
  const view = await run({ subtasks: [{ tool: "large" }] });
  assert.deepEqual([view.status, view.error], ["failed", "every sub-task failed"]);
  assert.deepEqual([view.failures[0].reason, view.failures[0].attempts], ["output", 1]);
  assert.match(view.failures[0].error, /has 600002 bytes, the limit of a step is 524288 bytes/);
});

test("everything that is wrong with a job is said at once", async () => {
  const text = await refusal("run_job", { subtasks: [...measure("fine"), { tool: "split", arguments: { text: "x" } }, { tool: "measure", arguments: {} }] });
  assert.deepEqual(text.split("\n").map((line) => line.split(":", 1)[0]), ["/subtasks/1/tool", "/subtasks/2/arguments"]);
  assert.match(await refusal("run_job", { input: { text: 7 } }), /^\/input: the planner split does not take it: \/text/);
  assert.match(await refusal("run_job", {}), /^\/: give either subtasks or input$/);
  assert.match(await refusal("run_job", { subtasks: measure("x"), input: { text: "x" } }), /^\/: give either/);
  assert.match(await refusal("run_job", { subtasks: wait(301, 0) }), /^\/subtasks: has 301 sub-tasks, the server takes 300 \(option maxSubtasks\)$/);
  assert.match(await refusal("get_job", { job: "nobody" }), /^there is no job "nobody"; list_jobs shows/);
});

test("sub-tasks and jobs are listed page by page, and old jobs are forgotten", async () => {
  const words = Array.from({ length: 25 }, (_, n) => `word-${n}`);
  const { job } = await run({ subtasks: measure(...words) });
  const first = await call("list_subtasks", { job });
  const second = await call("list_subtasks", { job, cursor: first.nextCursor });
  const listed = [...first.subtasks, ...second.subtasks];
  assert.deepEqual(listed.map(({ index, arguments: { word } }: any) => [index, word]), words.map((word, index) => [index, word]));
  assert.equal(second.nextCursor, undefined);

  const { maxJobs } = sample.options;
  const made: string[] = [];
  for (let n = 0; n <= maxJobs; n += 1) made.unshift((await run({ subtasks: measure(`job-${n}`) })).job);
  const newest = await call("list_jobs", { limit: 15 });
  const rest = await call("list_jobs", { limit: 15, cursor: newest.nextCursor });
  assert.deepEqual([...newest.jobs, ...rest.jobs].map((view: any) => view.job), made.slice(0, maxJobs));
  // All of them together might be more than an answer may hold.
  assert.ok(newest.jobs.every(({ status, result }: any) => status === "completed" && result === undefined));
  assert.notEqual((await call("get_job", { job: made[0] })).result, undefined);
  assert.match(await refusal("get_job", { job }), /^there is no job/);
});
