import { DurableObject } from "cloudflare:workers";
import { ProtocolError, type CallToolResult } from "@modelcontextprotocol/server";
import { backoffMs } from "./runtime/backoff.ts";
import type { Host } from "./runtime/call.ts";
import type { Environment } from "./runtime/environment.ts";
import { BodyFailure } from "./runtime/failure.ts";
import { exceedsBytes } from "./runtime/json.ts";
import type { Refusal } from "./runtime/object-call.ts";
import { textOf, valueOf } from "./runtime/result.ts";
import { callAside } from "./runtime/tool.ts";
import {
  isOpen,
  resultOf,
  type End,
  type Job,
  type JobStatus,
  type JobView,
  type Reason,
  type Step,
  type Subtask,
} from "./job.ts";
import { optionsOf, type Options } from "./options.ts";
import { readPlan } from "./plan.ts";
import { JobStore } from "./store.ts";

/**
 * While something runs, the alarm rings at least so often: an object without an event for a minute may be evicted, and
 * one whose process died goes on by it.
 */
const BEAT_MILLISECONDS = 5000;
/** No slot was free for the step's tool: how long until the next look, which is no new attempt. */
const BUSY_MILLISECONDS = 500;
const LONGEST_BACKOFF_MILLISECONDS = 10 * 60 * 1000;
/** What a sub-task may give, and what all of a job's may give to its aggregator. */
const MOST_VALUE_BYTES = 512 * 1024;
const MOST_AGGREGATED_BYTES = 8 * 1024 * 1024;
/** Results that are shown together with their job. */
const MOST_SHOWN_BYTES = 64 * 1024;
/** Of one page of sub-tasks, unless its first is larger. */
const MOST_PAGE_BYTES = 1024 * 1024;
const MOST_FAILURES = 10;
const LONGEST_ERROR = 2000;
/** What SQLite takes for no limit. */
const EVERY = -1;

/** What a job is made of: sub-tasks, or what the server's planner makes them of. */
export type JobSource = { subtasks: Subtask[] } | { input: Record<string, unknown> };

/** The calls that the server's tools make. */
export interface OrchestratorCalls {
  create(source: JobSource, deadlineSeconds: number | undefined): Promise<JobView | Refusal>;
  /** The job as it is after its next change, or after so long. */
  watch(id: string, milliseconds: number): Promise<JobView | Refusal>;
  list(before: number, limit: number): Promise<JobView[]>;
  /** A page of a job's sub-tasks, and from where the next one goes on. */
  subtasks(id: string, from: number, limit: number): Promise<{ steps: Step[]; next: number | undefined } | Refusal>;
  cancel(id: string): Promise<JobView | Refusal>;
}

/**
 * The Durable Object that holds the jobs of a server, and the queue of their steps. A step that is written down as
 * running while this object does not run it was cut off, and is tried again.
 */
export function createOrchestratorClass(hostOf: (env: Environment) => Host) {
  return class Orchestrator extends DurableObject<Environment> implements OrchestratorCalls {
    readonly #host: Host;
    readonly #options: Options;
    readonly #store: JobStore;
    /** What goes on, by the step's number. */
    readonly #running = new Map<number, AbortController>();
    /** Resolved with the next change of any job. */
    #change = Promise.withResolvers<void>();

    constructor(state: DurableObjectState, env: Environment) {
      super(state, env);
      this.#host = hostOf(env);
      this.#options = optionsOf(this.#host);
      this.#store = new JobStore(state.storage.sql);
      for (const step of this.#store.running()) {
        this.#finish(step, failure("interrupted", `the server ended in the middle of attempt ${step.attempts}`));
      }
      this.#setAlarm();
    }

    override alarm(): void {
      this.#work();
    }

    async create(source: JobSource, deadlineSeconds = this.#options.jobSeconds): Promise<JobView | Refusal> {
      if (this.#store.countOpen() >= this.#options.maxJobs) {
        return { refused: `the server works on ${this.#options.maxJobs} jobs, its most (option maxJobs); wait, or cancel some` };
      }
      const now = Date.now();
      const deadline = now + deadlineSeconds * 1000;
      const id = crypto.randomUUID();
      this.#atomically(() => {
        const planned = "subtasks" in source;
        const job = this.#store.addJob(id, planned ? "working" : "planning", now, deadline);
        if (planned) this.#store.addSteps(job, "work", source.subtasks, now);
        else this.#store.addSteps(job, "plan", [{ tool: this.#options.planner!, arguments: source.input }], now);
        this.#advance(job);
      });
      this.#work();
      return this.#view(id);
    }

    async watch(id: string, milliseconds: number): Promise<JobView | Refusal> {
      const job = this.#store.job(id);
      if (job !== undefined && isOpen(job)) {
        const pause = Promise.withResolvers<void>();
        const timer = setTimeout(pause.resolve, milliseconds);
        await Promise.race([this.#change.promise, pause.promise]);
        clearTimeout(timer);
      }
      return this.#view(id);
    }

    async list(before: number, limit: number): Promise<JobView[]> {
      return this.#store.jobs(before, limit).map((job) => this.#viewOf(job, "short"));
    }

    async subtasks(id: string, from: number, limit: number): Promise<{ steps: Step[]; next: number | undefined } | Refusal> {
      const job = this.#store.job(id);
      if (job === undefined) return unknown(id);
      const steps: Step[] = [];
      let bytes = 0;
      for (;;) {
        const [step] = this.#store.steps(job, "work", from + steps.length, 1);
        if (step === undefined) return { steps, next: undefined };
        bytes += JSON.stringify(step).length;
        const full = steps.length === limit || (bytes > MOST_PAGE_BYTES && steps.length > 0);
        if (full) return { steps, next: from + steps.length };
        steps.push(step);
      }
    }

    async cancel(id: string): Promise<JobView | Refusal> {
      const job = this.#store.job(id);
      if (job === undefined) return unknown(id);
      if (!isOpen(job)) return { refused: `job ${id} is ${job.status} already` };
      this.#end(job, "cancelled", {});
      this.#work();
      return this.#view(id);
    }

    /** Runs what is due, as far as there is room, and sets the alarm for the rest. */
    #work(): void {
      const now = Date.now();
      for (const job of this.#store.overdue(now)) {
        this.#end(job, "failed", { error: `the job did not end within its ${(job.deadline - job.created) / 1000} seconds` });
      }
      while (this.#running.size < this.#options.concurrency) {
        const step = this.#store.next(now);
        if (step === undefined) break;
        this.#begin(step);
      }
      this.#setAlarm();
      this.#change.resolve();
      this.#change = Promise.withResolvers();
    }

    #begin(waiting: Step): void {
      const step = this.#store.begin(waiting);
      const cancellation = new AbortController();
      this.#running.set(step.seq, cancellation);
      this.ctx.waitUntil(this.#run(step, cancellation.signal));
    }

    async #run(step: Step, signal: AbortSignal): Promise<void> {
      // A body that takes the process down with it has to have been counted before.
      await this.ctx.storage.sync();
      const end = await this.#call(step, signal);
      this.#running.delete(step.seq);
      try {
        this.#finish(step, end);
      } catch (error) {
        // A step that stayed running would hold its job up until its deadline.
        this.#finish(step, failure("output", `what it gave could not be kept: ${String(error)}`));
      } finally {
        this.#work();
      }
    }

    /** Never rejects. */
    async #call(step: Step, signal: AbortSignal): Promise<End> {
      if (signal.aborted) return failure("cancelled", "was cancelled before it began");
      try {
        // As a call within another one it takes none of the server's own slots: whoever waits for a job holds one.
        const caller = { request: undefined, questions: undefined, signal, depth: 1 };
        const result = await callAside({ host: this.#host, caller }, step.tool, this.#parametersOf(step), signal);
        return this.#endOf(step, result);
      } catch (error) {
        if (BodyFailure.is(error)) return failure(error.kind, error.message);
        const message = error instanceof Error ? error.message : String(error);
        return failure(error instanceof ProtocolError ? "missing" : "arguments", message);
      }
    }

    #parametersOf(step: Step): Record<string, unknown> {
      const job = step.kind === "aggregate" ? this.#store.jobOf(step) : undefined;
      if (job === undefined) return step.parameters;
      const bytes = this.#store.endBytes(job);
      if (bytes > MOST_AGGREGATED_BYTES) {
        const limit = `more than the ${MOST_AGGREGATED_BYTES} for an aggregator`;
        throw new Error(`the sub-tasks gave ${bytes} bytes, ${limit}; list_subtasks shows them`);
      }
      const results = this.#store.steps(job, "work", 0, EVERY).map(resultOf);
      return { results };
    }

    #endOf(step: Step, result: CallToolResult): End {
      if (result.isError) return failure("reported", textOf(result));
      const value = valueOf(result);
      const bytes = exceedsBytes(JSON.stringify(value), MOST_VALUE_BYTES);
      if (bytes !== undefined) {
        return failure("output", `the result has ${bytes} bytes, the limit of a step is ${MOST_VALUE_BYTES} bytes`);
      }
      if (step.kind !== "plan") return { ok: true, value };
      const plan = readPlan(this.#host, value);
      if ("subtasks" in plan) return { ok: true, value: plan.subtasks };
      return failure("output", `the planner returned a plan with mistakes:\n${plan.problems.join("\n")}`);
    }

    /** Notes what came of a step, unless its job ended meanwhile. */
    #finish(step: Step, end: End): void {
      const job = this.#store.jobOf(step);
      if (this.#store.step(step.seq)?.status !== "running" || job === undefined) return;
      const { maxAttempts, retryOn, retryDelayMs } = this.#options;
      this.#atomically(() => {
        if (!end.ok && end.reason === "busy") {
          return this.#store.putBack(step, step.attempts - 1, Date.now() + BUSY_MILLISECONDS, end);
        }
        if (!end.ok && step.attempts < maxAttempts && retryOn.includes(end.reason)) {
          const pause = backoffMs(step.attempts, retryDelayMs, LONGEST_BACKOFF_MILLISECONDS);
          return this.#store.putBack(step, step.attempts, Date.now() + pause, end);
        }
        // The sub-tasks of a plan are kept as steps of their own.
        const kept = step.kind === "plan" && end.ok ? { ...end, value: (end.value as Subtask[]).length } : end;
        this.#store.settle(step, kept);
        if (step.kind === "work") this.#advance(job);
        else if (!end.ok) this.#end(job, "failed", { error: `${step.tool} failed: ${end.error}` });
        else if (step.kind === "aggregate") this.#end(job, "completed", { result: end.value });
        else this.#start(job, end.value as Subtask[]);
      });
    }

    /** What the planner gave is queued. */
    #start(job: Job, subtasks: Subtask[]): void {
      this.#store.setStatus(job, "working");
      this.#store.addSteps(job, "work", subtasks, Date.now());
      this.#advance(job);
    }

    /** Once every sub-task ended, the aggregator gets what they gave. */
    #advance(job: Job): void {
      if (this.#store.hasOpenSteps(job)) return;
      const { aggregator } = this.#options;
      const { succeeded, failed } = this.#store.progress(job);
      if (succeeded === 0 && failed > 0) return this.#end(job, "failed", { error: "every sub-task failed" });
      if (aggregator === undefined) return this.#end(job, "completed", {});
      this.#store.setStatus(job, "aggregating");
      this.#store.addSteps(job, "aggregate", [{ tool: aggregator, arguments: {} }], Date.now());
    }

    #end(job: Job, status: JobStatus, end: { result?: unknown; error?: string }): void {
      const running = this.#store.running().filter((step) => step.job === job.seq);
      this.#store.endJob(job, status, end, Date.now(), this.#options.maxJobs);
      for (const { seq } of running) this.#running.get(seq)?.abort();
    }

    #atomically(change: () => void): void {
      this.ctx.storage.transactionSync(change);
    }

    #setAlarm(): void {
      const full = this.#running.size >= this.#options.concurrency;
      const beat = this.#running.size > 0 ? Date.now() + BEAT_MILLISECONDS : Infinity;
      // Where all places are taken, what is due waits for one to come free.
      const due = full ? Infinity : (this.#store.nextDue() ?? Infinity);
      const next = Math.min(beat, due, this.#store.nextDeadline() ?? Infinity);
      if (next === Infinity) void this.ctx.storage.deleteAlarm();
      else void this.ctx.storage.setAlarm(next);
    }

    #view(id: string): JobView | Refusal {
      const job = this.#store.job(id);
      return job === undefined ? unknown(id) : this.#viewOf(job, "whole");
    }

    #viewOf(job: Job, extent: "short" | "whole"): JobView {
      const progress = this.#store.progress(job);
      const whole = extent === "whole";
      const shown = whole && job.status === "completed" && this.#options.aggregator === undefined;
      return {
        job,
        progress,
        failures: whole ? this.#store.failures(job, MOST_FAILURES) : [],
        steps: shown && this.#store.endBytes(job) <= MOST_SHOWN_BYTES ? this.#store.steps(job, "work", 0, EVERY) : undefined,
      };
    }
  };
}

function unknown(id: string): Refusal {
  return { refused: `there is no job ${JSON.stringify(id)}; list_jobs shows those that are kept` };
}

function failure(reason: Reason, error: string): End {
  return { ok: false, reason, error: error.length > LONGEST_ERROR ? `${error.slice(0, LONGEST_ERROR)}…` : error };
}
