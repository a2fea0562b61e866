import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { request } from "../../runtime/test/client.ts";
import { generatedSample } from "../../runtime/test/sample.ts";
import { startServer, type RunningServer } from "../../runtime/test/workerd.ts";

const folder = join(process.cwd(), "agent-scheduler");
const sample = JSON.parse(await readFile(join(folder, "sample.json"), "utf8"));
let server: RunningServer;

before(async () => {
  server = await startServer(join(folder, "src", "index.ts"), await generatedSample(folder));
});
after(() => server?.stop());

async function call(name: string, parameters: object = {}): Promise<any> {
  const { result } = await request(server.url, "2026-07-28", "tools/call", { name, arguments: parameters });
  assert.notEqual(result.isError, true, result.content[0].text);
  return result.structuredContent;
}

async function refusal(name: string, parameters: object = {}): Promise<string> {
  const { result } = await request(server.url, "2025-11-25", "tools/call", { name, arguments: parameters });
  assert.equal(result.isError, true, JSON.stringify(result));
  return result.content[0].text;
}

/** Asks until it is so; the limit is long past anything that works. */
async function until<Answer>(ask: () => Promise<Answer>, isSo: (answer: Answer) => boolean): Promise<Answer> {
  const limit = Date.now() + 60_000;
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    if (Date.now() > limit) throw new Error(`still ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const runs = async (name: string, parameters: object = {}): Promise<any[]> => (await call("list_runs", { name, ...parameters })).runs;
/** All of them, read by pages of so many. */
async function schedules(limit: number): Promise<any[]> {
  const listed: any[] = [];
  let cursor: string | undefined;
  do {
    const page = await call("list_schedules", { limit, ...(cursor !== undefined && { cursor }) });
    listed.push(...page.schedules);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return listed;
}

const soon = () => new Date(Date.now() + 3000).toISOString();
const FAR = "2030-01-01T00:00:00Z";

test("every runs again and again, and keeps to its grid", async () => {
  const made = await call("create_schedule", { name: "tick", tool: "note", arguments: { text: "tick" }, every: "1s" });
  assert.deepEqual([made.every, made.status, made.lastRun], ["1s", "active", null]);
  const found = await until(() => runs("tick"), (list) => list.filter(({ status }) => status === "succeeded").length >= 3);
  const created = Date.parse(made.createdAt);
  for (const { trigger, output, dueAt, startedAt } of found) {
    assert.deepEqual([trigger, (Date.parse(dueAt) - created) % 1000], ["schedule", 0]);
    assert.ok(output === "tick" || output === null);
    assert.ok(Date.parse(startedAt) >= Date.parse(dueAt));
  }
  assert.equal(new Set(found.map(({ dueAt }) => dueAt)).size, found.length);
  await call("cancel_schedule", { name: "tick" });
});

test("at runs once, with the tool's defaults, and is done", async () => {
  await call("create_schedule", { name: "once", tool: "note", at: soon() });
  const [run, ...more] = await until(() => runs("once"), (list) => list[0]?.status === "succeeded");
  assert.deepEqual([run.output, run.passedOver, more], ["noted", 0, []]);
  const { schedules } = await call("list_schedules");
  const once = schedules.find(({ name }: { name: string }) => name === "once");
  assert.deepEqual([once.status, once.nextRunAt, once.lastRun], ["done", null, run]);
  assert.match(await refusal("run_schedule_now", { name: "once" }), /^schedule "once" is done$/);
});

test("a tool that fails is a run that failed", async () => {
  await call("create_schedule", { name: "failing", tool: "fail", at: soon() });
  const [run] = await until(() => runs("failing"), (list) => list[0]?.endedAt != null);
  assert.deepEqual([run.status, run.output], ["failed", "no luck (line 1 of the body)"]);
});

test("what becomes due while the last run goes on is passed over", async () => {
  await call("create_schedule", { name: "slow", tool: "wait", arguments: { milliseconds: 2500 }, every: "1s" });
  const [run] = await until(() => runs("slow"), (list) => list.at(-1)?.endedAt != null).then((list) => list.slice(-1));
  assert.deepEqual([run.status, run.output], ["succeeded", '{"waited":2500}']);
  assert.ok(run.passedOver >= 1, JSON.stringify(run));
  await call("cancel_schedule", { name: "slow" });
});

test("at runs also when a run by hand still goes on at its time", async () => {
  const at = new Date(Date.now() + 4000).toISOString();
  await call("create_schedule", { name: "twice", tool: "wait", arguments: { milliseconds: 6000 }, at });
  await call("run_schedule_now", { name: "twice" });
  const found = await until(() => runs("twice"), (list) => list.every(({ endedAt }) => endedAt != null) && list.length === 2);
  assert.deepEqual(found.map(({ trigger, status, passedOver }) => [trigger, status, passedOver]), [
    ["schedule", "succeeded", 0],
    ["manual", "succeeded", 0],
  ]);
  assert.deepEqual([found[0].dueAt, found[0].late], [at, true]);
});

test("a schedule stays listed while its last run goes on", async () => {
  await call("create_schedule", { name: "lasting", tool: "wait", arguments: { milliseconds: 30_000 }, at: soon() });
  await until(() => runs("lasting"), (list) => list.length > 0);
  for (let batch = 0; batch < 11; batch += 1) {
    const names = Array.from({ length: 10 }, (_, n) => `ended-${batch}-${n}`);
    await Promise.all(names.map((name) => call("create_schedule", { name, tool: "note", at: FAR })));
    await Promise.all(names.map((name) => call("cancel_schedule", { name })));
  }
  assert.match(await refusal("list_runs", { name: "ended-0-0" }), /^there is no schedule/);
  assert.equal((await runs("lasting"))[0].status, "running");
  await call("cancel_schedule", { name: "lasting" });
});

test("a paused schedule waits, a resumed one goes on with its next time", async () => {
  await call("create_schedule", { name: "paused", tool: "note", cron: "* * * * *" });
  const paused = await call("pause_schedule", { name: "paused" });
  assert.deepEqual([paused.status, paused.nextRunAt], ["paused", null]);
  const resumed = await call("resume_schedule", { name: "paused" });
  assert.equal(resumed.status, "active");
  assert.ok(Date.parse(resumed.nextRunAt) > Date.parse(resumed.createdAt));

  const at = soon();
  await call("create_schedule", { name: "missed", tool: "note", at });
  await call("pause_schedule", { name: "missed" });
  await until(async () => Date.now(), (now) => now > Date.parse(at));
  assert.match(await refusal("resume_schedule", { name: "missed" }), /went by while it was paused; run_schedule_now, or cancel it/);
  assert.deepEqual(await runs("missed"), []);
});

test("a run can be started at once, and cancelled in its middle", async () => {
  await call("create_schedule", { name: "long", tool: "wait", arguments: { milliseconds: 25_000 }, at: FAR });
  const started = await call("run_schedule_now", { name: "long" });
  assert.deepEqual([started.lastRun.trigger, started.lastRun.status], ["manual", "running"]);
  assert.match(await refusal("run_schedule_now", { name: "long" }), /still runs/);
  assert.equal((await call("cancel_schedule", { name: "long" })).status, "cancelled");
  const [run] = await until(() => runs("long"), ([newest]) => newest.status !== "running");
  assert.equal(run.status, "cancelled");
  assert.match(await refusal("cancel_schedule", { name: "long" }), /^schedule "long" is cancelled$/);
});

test("no more runs go on at a time than the options allow", async () => {
  for (const name of ["a", "b", "c"]) {
    await call("create_schedule", { name, tool: "wait", arguments: { milliseconds: 1500 }, at: soon() });
  }
  const last = async () => Promise.all(["a", "b", "c"].map(async (name) => (await runs(name))[0]));
  const ended = await until(last, (found) => found.every((run) => run?.endedAt != null));
  const span = ended.map(({ startedAt, endedAt }) => [Date.parse(startedAt), Date.parse(endedAt)] as const);
  const [first, second, third] = span.sort((one, other) => one[0] - other[0]);
  assert.ok(third![0] >= Math.min(first![1], second![1]), JSON.stringify(ended));
  assert.deepEqual(ended.map(({ status }) => status), ["succeeded", "succeeded", "succeeded"]);
});

test("the history keeps the newest runs, and is read page by page", async () => {
  await call("create_schedule", { name: "history", tool: "note", at: FAR });
  for (let n = 0; n < 8; n += 1) {
    await until(
      () => request(server.url, "2026-07-28", "tools/call", { name: "run_schedule_now", arguments: { name: "history" } }),
      ({ result }) => result.isError !== true,
    );
  }
  const all = await until(() => runs("history"), ([newest]) => newest.status === "succeeded");
  assert.equal(all.length, sample.options.keepRuns);
  const first = await call("list_runs", { name: "history", limit: 3 });
  const second = await call("list_runs", { name: "history", limit: 3, cursor: first.nextCursor });
  assert.deepEqual([...first.runs, ...second.runs], all);
  assert.equal(second.nextCursor, undefined);
  assert.match(await refusal("list_runs", { name: "history", cursor: "x" }), /^\/cursor: /);
});

test("a name is free again once its schedule ended", async () => {
  const schedule = { name: "name", tool: "note", at: FAR };
  await call("create_schedule", schedule);
  assert.match(await refusal("create_schedule", schedule), /^\/name: there is a schedule "name" already; cancel it first/);
  await call("cancel_schedule", { name: "name" });
  assert.equal((await call("create_schedule", schedule)).status, "active");
  await call("cancel_schedule", { name: "name" });
});

test("everything that is wrong with a schedule is said at once", async () => {
  const wrong = { name: "wrong", tool: "wait", arguments: { milliseconds: "long" }, cron: "0 0 30 2 *", timeZone: "Mars/Olympus" };
  const text = await refusal("create_schedule", wrong);
  assert.deepEqual(text.split("\n").map((line) => line.split(":", 1)[0]), ["/arguments", "/timeZone", "/cron"]);
  assert.match(text, /milliseconds/);
  assert.match(text, /never fires/);
  for (const tool of ["nobody", "create_schedule"]) {
    assert.match(await refusal("create_schedule", { name: "wrong", tool, at: FAR }), /^\/tool: .* none of the tools that can be scheduled: note, wait, fail$/);
  }
  assert.match(await refusal("create_schedule", { name: "wrong", tool: "note", at: FAR, arguments: { text: "x".repeat(70_000) } }), /^\/arguments: has \d+ bytes/);
  assert.match(await refusal("list_runs", { name: "wrong" }), /^there is no schedule "wrong"; list_schedules names them all$/);
});

test("a server holds so many schedules and no more", async () => {
  const names = Array.from({ length: sample.options.maxSchedules }, (_, n) => `full-${n}`);
  const open = (await schedules(100)).filter(({ status }) => status === "active" || status === "paused");
  for (const name of names.slice(open.length)) await call("create_schedule", { name, tool: "note", at: FAR });
  assert.match(await refusal("create_schedule", { name: "full", tool: "note", at: FAR }), /holds 20 schedules, its most; cancel some first/);

  assert.equal((await call("list_schedules", { limit: 7 })).schedules.length, 7);
  const listed = (await schedules(7)).map(({ name }) => name);
  assert.equal(new Set(listed).size, listed.length);
  assert.ok(names.slice(open.length).every((name) => listed.includes(name)));
});
