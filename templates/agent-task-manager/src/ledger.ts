import { backoffMs } from "./runtime/backoff.ts";
import { fits } from "./runtime/input.ts";
import { failure } from "./attempt.ts";
import type { Enqueued } from "./queue-binding.ts";
import { clientOf, settingsOf, type Change, type Row, type TaskStore } from "./store.ts";
import { ENDED, type Outcome, type Status, type TaskClient, type TaskSpec } from "./task.ts";

/** No slot was free: how long until the next look, which is no new attempt. */
const BUSY_MS = 200;
/** However often attempts failed. */
const LONGEST_BACKOFF_MS = 60 * 60 * 1000;
/** A task's questions and answers together. */
const LONGEST_DIALOGUE = 512 * 1024;
/** What keeps a task from running that depends on it. */
const BROKEN: readonly Status[] = ["failed", "cancelled", "blocked"];

/** What may happen to a task, and what follows from it for those that depend on it. Nothing here waits. */
export class Ledger {
  constructor(
    readonly tasks: TaskStore,
    readonly maxTasks: number,
  ) {}

  add(spec: TaskSpec, now: number): Enqueued {
    this.tasks.purge(now);
    const known = spec.idempotencyKey === undefined ? undefined : this.tasks.findByKey(spec.idempotencyKey);
    if (known !== undefined && (known.expires ?? Infinity) > now) return this.#again(known, spec);
    // Its time is over, though a task that depends on it keeps it: nobody can look at it any more.
    if (known !== undefined) this.tasks.change(known.id, { key: null }, now);
    const missing = spec.dependsOn.filter((id) => this.tasks.find(id) === undefined);
    if (missing.length > 0) return { problem: `dependsOn names tasks that do not exist: ${missing.join(", ")}` };
    if (this.tasks.size() >= this.maxTasks && !this.tasks.makeRoom(spec.dependsOn)) {
      return { problem: `the queue is full: it keeps ${this.maxTasks} tasks (option maxTasks); try again once some have ended` };
    }
    const id = crypto.randomUUID();
    this.tasks.insert(id, spec, "waiting", now);
    this.#review(id, now);
    return { task: this.tasks.summary(this.#find(id)), repeated: false };
  }

  #again(row: Row, { tool, arguments: given }: TaskSpec): Enqueued {
    if (row.tool === tool && row.arguments === JSON.stringify(given)) {
      return { task: this.tasks.summary(row), repeated: true };
    }
    return { problem: `the idempotency key is that of task ${row.id}, which has another tool or other arguments` };
  }

  /** Ends a task that has not ended yet. */
  cancel(row: Row, reason: string, now: number): void {
    if (ENDED.includes(row.status)) return;
    if (row.status === "running") this.tasks.endAttempt(row.id, row.attempts, now, "cancelled", reason);
    this.#end(row, "cancelled", { reason }, now);
  }

  /** Gives a task that failed or was cancelled all of its attempts again. */
  retry(row: Row, now: number): Enqueued {
    if (row.status !== "failed" && row.status !== "cancelled") {
      return { problem: `task ${row.id} is ${row.status}: only one that failed or was cancelled can be retried` };
    }
    const again: Change = { status: "waiting", due: now, remaining: settingsOf(row).maxAttempts };
    this.tasks.change(row.id, { ...again, ended: null, expires: null, result: null, error: null, reason: null }, now);
    this.#review(row.id, now);
    this.#reviewDependents(row.id, now);
    return { task: this.tasks.summary(this.#find(row.id)), repeated: false };
  }

  /** Takes a client's answers to what a task asks; what fits no open question counts for nothing. */
  answer(row: Row, responses: Record<string, unknown>, now: number): void {
    const client = clientOf(row);
    if (row.status !== "input_required" || client === undefined) return;
    for (const [key, response] of Object.entries(responses)) {
      const request = Object.hasOwn(client.open, key) ? client.open[key] : undefined;
      if (request === undefined || !fits(response, request)) continue;
      client.answers[key] = response;
      delete client.open[key];
    }
    const complete = Object.keys(client.open).length === 0;
    this.#converse(row, client, complete ? { status: "ready", parked: null, reason: null } : {}, now);
  }

  /** An attempt begins: its number. */
  begin(row: Row, lease: number, now: number): number {
    const number = row.attempts + 1;
    const running: Change = { status: "running", attempts: number, remaining: row.remaining - 1, lease, reason: null };
    this.tasks.change(row.id, running, now);
    this.tasks.beginAttempt(row.id, number, now);
    return number;
  }

  /** Notes how an attempt went, unless the task was ended meanwhile. */
  finish(id: string, number: number, outcome: Outcome, now: number): void {
    const row = this.tasks.find(id);
    if (row?.status !== "running" || row.attempts !== number) return;
    if (outcome.kind === "asked") return this.#ask(row, outcome.requests, now);
    if (outcome.kind === "completed") {
      this.tasks.endAttempt(id, number, now, "completed");
      return this.#end(row, "completed", { result: JSON.stringify(outcome.result) }, now);
    }

    const { cause, message } = outcome.error;
    const settings = settingsOf(row);
    const result = outcome.result === undefined ? null : JSON.stringify(outcome.result);
    if (cause === "busy") {
      const again: Change = { status: "ready", due: now + BUSY_MS, attempts: number - 1, remaining: row.remaining + 1 };
      this.tasks.forgetAttempt(id, number);
      return this.tasks.change(id, { ...again, lease: null, reason: message }, now);
    }
    this.tasks.endAttempt(id, number, now, cause, message);
    if (row.remaining > 0 && settings.retryOn.includes(cause)) {
      const failures = settings.maxAttempts - row.remaining;
      const due = now + backoffMs(failures, settings.retryDelayMs, LONGEST_BACKOFF_MS);
      this.tasks.change(id, { status: "ready", due, lease: null, reason: `attempt ${number} failed: ${message}` }, now);
    } else {
      this.#end(row, "failed", { result, error: JSON.stringify(outcome.error), reason: message }, now);
    }
  }

  #ask(row: Row, requests: TaskClient["open"], now: number): void {
    this.tasks.endAttempt(row.id, row.attempts, now, "input_required");
    const known = clientOf(row);
    if (known === undefined) throw new Error(`task ${row.id} has nobody to ask`);
    // A round of questions is no failed attempt.
    const parked: Change = { status: "input_required", parked: now + settingsOf(row).ttlMs, remaining: row.remaining + 1 };
    this.#converse(row, { ...known, open: requests }, { ...parked, lease: null, reason: "waits for its client's answers" }, now);
  }

  #converse(row: Row, client: TaskClient, change: Change, now: number): void {
    const text = JSON.stringify(client);
    if (text.length <= LONGEST_DIALOGUE) return this.tasks.change(row.id, { ...change, client: text }, now);
    const message = `the task's questions and answers have more than ${LONGEST_DIALOGUE} characters`;
    const { error, result } = failure("output", message);
    this.#end(row, "failed", { error: JSON.stringify(error), result: JSON.stringify(result), reason: message }, now);
  }

  #end(row: Row, status: Status, change: Change, now: number): void {
    const expires = now + settingsOf(row).ttlMs;
    this.tasks.change(row.id, { reason: null, ...change, status, ended: now, expires, lease: null, parked: null }, now);
    this.#reviewDependents(row.id, now);
  }

  /** Lets every task that depends on this one see where it stands now, and those that depend on them. */
  #reviewDependents(id: string, now: number): void {
    const open = this.tasks.dependents(id);
    for (let task = open.pop(); task !== undefined; task = open.pop()) {
      if (this.#review(task, now)) open.push(...this.tasks.dependents(task));
    }
  }

  /** Moves a task that has not begun to where its dependencies put it; whether it moved. */
  #review(id: string, now: number): boolean {
    const row = this.#find(id);
    if (row.status !== "waiting" && row.status !== "blocked") return false;
    const change = this.#placed(row, now);
    if (change.status === row.status) return false;
    this.tasks.change(id, change, now);
    return true;
  }

  /** Where its dependencies put a task that has not begun. */
  #placed(row: Row, now: number): Change {
    const dependencies = this.tasks.dependencies(row.id).map((task) => [task, this.tasks.find(task)?.status] as const);
    const broken = dependencies.find(([, status]) => status === undefined || BROKEN.includes(status));
    if (broken === undefined) {
      const complete = dependencies.every(([, status]) => status === "completed");
      return { status: complete ? "ready" : "waiting", parked: null, reason: null };
    }
    const [dependency, status = "gone"] = broken;
    const reason = `depends on task ${dependency}, which is ${status}`;
    const { onDependencyFailure, ttlMs } = settingsOf(row);
    if (onDependencyFailure === "block") return { status: "blocked", reason, parked: now + ttlMs };
    return { status: "cancelled", reason, parked: null, ended: now, expires: now + ttlMs };
  }

  /** Ends what was parked for too long: what is blocked, and questions that nobody answered. */
  giveUp(now: number): void {
    for (const row of this.tasks.givenUp(now)) {
      if (row.status === "blocked") this.#end(row, "cancelled", { reason: row.reason }, now);
      else this.#unanswered(row, now);
    }
  }

  #unanswered(row: Row, now: number): void {
    const message = `no answer came within ${settingsOf(row).ttlMs} ms`;
    const error = { cause: "unanswered", message, protocol: { code: -32603, message } };
    this.#end(row, "failed", { error: JSON.stringify(error), reason: message }, now);
  }

  #find(id: string): Row {
    const row = this.tasks.find(id);
    if (row === undefined) throw new Error(`task ${id} is gone`);
    return row;
  }
}
