import { DurableObject } from "cloudflare:workers";
import { backoffMs } from "./runtime/backoff.ts";
import type { Host } from "./runtime/call.ts";
import type { Environment } from "./runtime/environment.ts";
import { fits } from "./runtime/input.ts";
import { failure, optionsOf, protocolFailure, runAttempt } from "./attempt.ts";
import type { Enqueued, Page, PageRequest, QueueCalls, QueueState } from "./queue-binding.ts";
import { clientOf, resultOf, settingsOf, TaskStore, type Change, type Row } from "./store.ts";
import { ENDED, type Outcome, type QueueOptions, type Status, type TaskClient, type TaskDetail, type TaskSpec } from "./task.ts";

/** An alarm may take 15 minutes; after so long its handler begins nothing new and leaves the rest to the next. */
const SHIFT_MS = 8 * 60 * 1000;
/** What an attempt may take beyond its tool's own time. */
const LEASE_GRACE_MS = 5000;
/** No slot was free: how long until the next look, which is no new attempt. */
const BUSY_MS = 200;
/** However often attempts failed. */
const LONGEST_BACKOFF_MS = 60 * 60 * 1000;
/** A task's questions and answers together. */
const LONGEST_DIALOGUE = 512 * 1024;
/** The longest sleep between two looks: timers know 24 days at most. */
const LONGEST_WAIT_MS = 60 * 60 * 1000;

/**
 * The Durable Object that keeps a server's tasks and runs them. Everything happens in `alarm`, which the platform
 * repeats until it ends well: so a task runs whether or not somebody waits, and again where its process ended in the
 * middle. Its one object is the only one that writes, so whatever is marked as running while it is not in memory was
 * interrupted.
 */
export function createQueueClass(hostOf: (env: Environment) => Host) {
  return class TaskQueue extends DurableObject<Environment> implements QueueCalls {
    readonly #tasks: TaskStore;
    readonly #options: QueueOptions;
    readonly #running = new Map<string, AbortController>();
    /** Present while the alarm's handler works: makes it look for something new to do. */
    #look: (() => void) | undefined;

    constructor(state: DurableObjectState, env: Environment) {
      super(state, env);
      this.#tasks = new TaskStore(state.storage.sql);
      this.#options = optionsOf(hostOf(env));
      this.#recover(Date.now());
      void state.blockConcurrencyWhile(() => this.#schedule());
    }

    override async alarm(): Promise<void> {
      await this.#work(Date.now() + SHIFT_MS);
      await this.#schedule();
    }

    async enqueue(spec: TaskSpec): Promise<Enqueued> {
      const now = Date.now();
      this.#tasks.purge(now);
      const known = spec.idempotencyKey === undefined ? undefined : this.#tasks.findByKey(spec.idempotencyKey);
      if (known !== undefined) return this.#again(known, spec);
      const missing = spec.dependsOn.filter((id) => this.#tasks.find(id) === undefined);
      if (missing.length > 0) return { problem: `dependsOn names tasks that do not exist: ${missing.join(", ")}` };
      if (this.#tasks.size() >= this.#options.maxTasks && !this.#tasks.makeRoom()) {
        return { problem: `the queue is full: it keeps ${this.#options.maxTasks} tasks (option maxTasks); try again once some have ended` };
      }

      const id = crypto.randomUUID();
      this.#tasks.insert(id, spec, "waiting", now);
      this.#review(id, now);
      await this.#begin();
      return { task: this.#tasks.summary(this.#find(id)), repeated: false };
    }

    async get(id: string): Promise<TaskDetail | undefined> {
      const row = this.#present(id);
      return row && this.#tasks.detail(row);
    }

    async list({ statuses, tool, before, limit }: PageRequest): Promise<Page> {
      this.#tasks.purge(Date.now());
      const rows = this.#tasks.list(statuses, tool, before, limit + 1);
      const page = rows.slice(0, limit);
      const last = page.at(-1);
      return {
        tasks: page.map((row) => this.#tasks.summary(row)),
        ...(rows.length > limit && last && { before: last.seq }),
      };
    }

    /** Ends a task that has not ended yet; a running one is aborted. */
    async cancel(id: string, reason: string): Promise<TaskDetail | undefined> {
      const row = this.#present(id);
      if (row === undefined) return undefined;
      if (!ENDED.includes(row.status)) {
        const now = Date.now();
        if (row.status === "running") this.#tasks.endAttempt(id, row.attempts, now, "cancelled", reason);
        this.#end(row, "cancelled", { reason }, now);
        this.#running.get(id)?.abort();
        await this.#begin();
      }
      return this.get(id);
    }

    /** Gives a task that failed or was cancelled all of its attempts again. */
    async retry(id: string): Promise<Enqueued | undefined> {
      const row = this.#present(id);
      if (row === undefined) return undefined;
      if (row.status !== "failed" && row.status !== "cancelled") {
        return { problem: `task ${id} is ${row.status}: only one that failed or was cancelled can be retried` };
      }
      const now = Date.now();
      const again: Change = { status: "waiting", due: now, remaining: settingsOf(row).maxAttempts };
      this.#tasks.change(id, { ...again, ended: null, expires: null, result: null, error: null, reason: null }, now);
      this.#review(id, now);
      await this.#begin();
      return { task: this.#tasks.summary(this.#find(id)), repeated: false };
    }

    /** Takes a client's answers to what a task asks; whether there is such a task. */
    async answer(id: string, responses: Record<string, unknown>): Promise<boolean> {
      const row = this.#present(id);
      if (row === undefined) return false;
      const client = clientOf(row);
      if (row.status !== "input_required" || client === undefined) return true;
      for (const [key, response] of Object.entries(responses)) {
        const request = Object.hasOwn(client.open, key) ? client.open[key] : undefined;
        if (request === undefined || !fits(response, request)) continue;
        client.answers[key] = response;
        delete client.open[key];
      }
      const now = Date.now();
      const complete = Object.keys(client.open).length === 0;
      const change: Change = complete ? { status: "ready", parked: null, reason: null } : {};
      this.#converse(row, client, change, now);
      if (complete) await this.#begin();
      return true;
    }

    async state(): Promise<QueueState> {
      this.#tasks.purge(Date.now());
      const { concurrency, maxTasks } = this.#options;
      return { counts: this.#tasks.counts(), kept: this.#tasks.size(), maxTasks, concurrency };
    }

    /** Runs tasks until there are none to run now. */
    async #work(until: number): Promise<void> {
      for (;;) {
        const { promise: something, resolve: look } = Promise.withResolvers<void>();
        this.#look = look;
        this.#tidy(Date.now());
        this.#fill(until);
        if (this.#running.size === 0) break;
        const timer = setTimeout(look, this.#pause());
        await something;
        clearTimeout(timer);
      }
      this.#look = undefined;
    }

    /** How long there is nothing to do, as far as can be known. */
    #pause(): number {
      if (this.#running.size >= this.#options.concurrency) return LEASE_GRACE_MS;
      const next = (this.#tasks.nextMoment() ?? Infinity) - Date.now();
      return Math.min(Math.max(BUSY_MS, next), LONGEST_WAIT_MS);
    }

    #fill(until: number): void {
      while (this.#running.size < this.#options.concurrency && Date.now() < until) {
        const row = this.#tasks.next(Date.now());
        if (row === undefined) return;
        void this.#run(row);
      }
    }

    async #run(row: Row): Promise<void> {
      const host = hostOf(this.env);
      const [now, number] = [Date.now(), row.attempts + 1];
      const timeoutMs = host.catalog.tools.get(row.tool)?.body.timeoutMs ?? 0;
      const lease = now + timeoutMs + LEASE_GRACE_MS;
      this.#tasks.change(row.id, { status: "running", attempts: number, remaining: row.remaining - 1, lease, reason: null }, now);
      this.#tasks.beginAttempt(row.id, number, now);
      const cancellation = new AbortController();
      this.#running.set(row.id, cancellation);
      try {
        const outcome = await runAttempt(host, {
          tool: row.tool,
          arguments: JSON.parse(row.arguments),
          client: clientOf(row),
          signal: cancellation.signal,
          resultOf: (task) => {
            const found = this.#tasks.find(task);
            return found && resultOf(found);
          },
        });
        this.#finish(row.id, number, outcome);
      } catch (error) {
        // The storage failed: the task is still marked as running, and is taken for interrupted.
        console.error(`task ${row.id}: ${String(error)}`);
      } finally {
        if (this.#running.get(row.id) === cancellation) this.#running.delete(row.id);
        this.#look?.();
      }
    }

    /** Notes how an attempt went, unless the task was ended meanwhile. */
    #finish(id: string, number: number, outcome: Outcome): void {
      const row = this.#tasks.find(id);
      if (row?.status !== "running" || row.attempts !== number) return;
      const now = Date.now();
      if (outcome.kind === "asked") return this.#ask(row, outcome.requests, now);
      if (outcome.kind === "completed") {
        this.#tasks.endAttempt(id, number, now, "completed");
        return this.#end(row, "completed", { result: JSON.stringify(outcome.result) }, now);
      }

      const { cause, message } = outcome.error;
      const settings = settingsOf(row);
      const result = outcome.result === undefined ? null : JSON.stringify(outcome.result);
      this.#tasks.endAttempt(id, number, now, cause, message);
      if (cause === "busy") {
        this.#tasks.change(id, { status: "ready", due: now + BUSY_MS, remaining: row.remaining + 1, lease: null, reason: message }, now);
      } else if (row.remaining > 0 && settings.retryOn.includes(cause)) {
        const failures = settings.maxAttempts - row.remaining;
        const due = now + backoffMs(failures, settings.retryDelayMs, LONGEST_BACKOFF_MS);
        this.#tasks.change(id, { status: "ready", due, lease: null, reason: `attempt ${number} failed: ${message}` }, now);
      } else {
        this.#end(row, "failed", { result, error: JSON.stringify(outcome.error), reason: message }, now);
      }
    }

    #ask(row: Row, requests: TaskClient["open"], now: number): void {
      this.#tasks.endAttempt(row.id, row.attempts, now, "input_required");
      const known = clientOf(row);
      if (known === undefined) throw new Error(`task ${row.id} has nobody to ask`);
      // A round of questions is no failed attempt.
      const parked: Change = { status: "input_required", parked: now + settingsOf(row).ttlMs, remaining: row.remaining + 1 };
      this.#converse(row, { ...known, open: requests }, { ...parked, lease: null, reason: "waits for its client's answers" }, now);
    }

    #converse(row: Row, client: TaskClient, change: Change, now: number): void {
      const text = JSON.stringify(client);
      if (text.length <= LONGEST_DIALOGUE) return this.#tasks.change(row.id, { ...change, client: text }, now);
      const message = `the task's questions and answers have more than ${LONGEST_DIALOGUE} characters`;
      const { error, result } = failure("output", message);
      this.#end(row, "failed", { error: JSON.stringify(error), result: JSON.stringify(result), reason: message }, now);
    }

    #end(row: Row, status: Status, change: Change, now: number): void {
      const expires = now + settingsOf(row).ttlMs;
      this.#tasks.change(row.id, { reason: null, ...change, status, ended: now, expires, lease: null, parked: null }, now);
      this.#reviewDependents(row.id, now);
    }

    /** Lets every task that depends on this one see where it stands now, and those that depend on them. */
    #reviewDependents(id: string, now: number): void {
      const open = this.#tasks.dependents(id);
      for (let task = open.pop(); task !== undefined; task = open.pop()) {
        if (this.#review(task, now)) open.push(...this.#tasks.dependents(task));
      }
    }

    /** Moves a task that has not begun to where its dependencies put it; whether it moved. */
    #review(id: string, now: number): boolean {
      const row = this.#find(id);
      if (row.status !== "waiting" && row.status !== "blocked") return false;
      const settings = settingsOf(row);
      const dependencies = this.#tasks.dependencies(id).map((task) => [task, this.#tasks.find(task)?.status] as const);
      const broken = dependencies.find(([, status]) => status === undefined || BROKEN.includes(status));
      const change: Change = {};
      if (broken !== undefined) {
        const reason = `depends on task ${broken[0]}, which is ${broken[1] ?? "gone"}`;
        const ended: Change = { status: "cancelled", reason, parked: null, ended: now, expires: now + settings.ttlMs };
        const blocked: Change = { status: "blocked", reason, parked: now + settings.ttlMs };
        Object.assign(change, settings.onDependencyFailure === "cancel" ? ended : blocked);
      } else {
        const complete = dependencies.every(([, status]) => status === "completed");
        Object.assign(change, { status: complete ? "ready" : "waiting", parked: null, reason: null });
      }
      if (change.status === row.status) return false;
      this.#tasks.change(id, change, now);
      return true;
    }

    /** Ends what nobody will end any more: attempts without a process, questions without answers. */
    #tidy(now: number): void {
      this.#recover(now);
      for (const row of this.#tasks.givenUp(now)) {
        if (row.status === "blocked") this.#end(row, "cancelled", { reason: row.reason }, now);
        else this.#unanswered(row, now);
      }
    }

    #recover(now: number): void {
      for (const row of this.#tasks.withStatus("running")) {
        const running = this.#running.get(row.id);
        if (running === undefined) {
          const message = `the server's process ended in the middle of attempt ${row.attempts}`;
          this.#finish(row.id, row.attempts, protocolFailure({ code: -32603, message }, "interrupted"));
        } else if (row.lease !== null && row.lease < now) {
          running.abort();
          this.#finish(row.id, row.attempts, failure("timeout", `attempt ${row.attempts} did not end within its time`));
        }
      }
    }

    #unanswered(row: Row, now: number): void {
      const message = `no answer came within ${settingsOf(row).ttlMs} ms`;
      const error = { cause: "unanswered", message, protocol: { code: -32603, message } };
      this.#end(row, "failed", { error: JSON.stringify(error), reason: message }, now);
    }

    /** Has the alarm's handler look at the tasks, at once. */
    async #begin(): Promise<void> {
      if (this.#look === undefined) await this.#schedule();
      else this.#look();
    }

    /** Sets the alarm for the next moment at which there is something to do. */
    async #schedule(): Promise<void> {
      const next = this.#tasks.nextMoment();
      const set = await this.ctx.storage.getAlarm();
      // One that rings too early only looks.
      if (next !== undefined && (set === null || next < set)) await this.ctx.storage.setAlarm(Math.max(next, Date.now()));
    }

    #again(row: Row, { tool, arguments: given }: TaskSpec): Enqueued {
      if (row.tool === tool && row.arguments === JSON.stringify(given)) {
        return { task: this.#tasks.summary(row), repeated: true };
      }
      return { problem: `the idempotency key is that of task ${row.id}, which has another tool or other arguments` };
    }

    /** A task whose time is not over. */
    #present(id: string): Row | undefined {
      const row = this.#tasks.find(id);
      return row === undefined || (row.expires ?? Infinity) <= Date.now() ? undefined : row;
    }

    #find(id: string): Row {
      const row = this.#tasks.find(id);
      if (row === undefined) throw new Error(`task ${id} is gone`);
      return row;
    }
  };
}

/** What keeps a task from running that depends on it. */
const BROKEN: readonly Status[] = ["failed", "cancelled", "blocked"];
