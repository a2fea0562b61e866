import { DurableObject } from "cloudflare:workers";
import type { CallToolResult } from "@modelcontextprotocol/server";
import { callToolAlone, type Host } from "./runtime/call.ts";
import type { Environment } from "./runtime/environment.ts";
import type { Refusal } from "./runtime/object-call.ts";
import { textOf } from "./runtime/result.ts";
import { optionsOf, type Options } from "./options.ts";
import { ScheduleStore, type Run, type RunStatus, type Schedule, type Trigger } from "./store.ts";
import { nextTime, type Timing } from "./timing.ts";

/** While something runs, the alarm rings at least so often: an object without an event for a minute may be evicted. */
const BEAT_MILLISECONDS = 30_000;
/** Before a run that waits for another one is looked at again. */
const RETRY_MILLISECONDS = 1000;
/** Schedules that ended stay listed with their history until at least so many others ended after them. */
const LEAST_ENDED = 100;

export interface NewSchedule {
  name: string;
  tool: string;
  parameters: Record<string, unknown>;
  timing: Timing;
  created: number;
  first: number;
}

export interface ListedSchedule {
  schedule: Schedule;
  lastRun: Run | undefined;
}

/** The calls that the server's tools make. */
export interface SchedulerCalls {
  create(schedule: NewSchedule): ListedSchedule | Refusal;
  list(after: number, limit: number): ListedSchedule[];
  pause(name: string): ListedSchedule | Refusal;
  resume(name: string): ListedSchedule | Refusal;
  cancel(name: string): ListedSchedule | Refusal;
  runNow(name: string): ListedSchedule | Refusal;
  history(name: string, before: number, limit: number): Run[] | Refusal;
}

/**
 * The Durable Object that holds all schedules of a server and calls their tools. A run is written down together with
 * its schedule's next time, before its tool is called: whatever happens then, it never happens twice.
 */
export function createSchedulerClass(hostOf: (env: Environment) => Host) {
  return class Scheduler extends DurableObject<Environment> implements SchedulerCalls {
    readonly #host: Host;
    readonly #options: Options;
    readonly #store: ScheduleStore;
    /** What goes on, by schedule. */
    readonly #running = new Map<number, AbortController>();

    constructor(state: DurableObjectState, env: Environment) {
      super(state, env);
      this.#host = hostOf(env);
      this.#options = optionsOf(this.#host);
      this.#store = new ScheduleStore(state.storage.sql);
      this.#store.interruptRunning();
      this.#setAlarm();
    }

    override alarm(): void {
      this.#startDue();
    }

    create({ first, ...schedule }: NewSchedule): ListedSchedule | Refusal {
      const { name } = schedule;
      const known = this.#store.find(name);
      if (known !== undefined && isOpen(known)) {
        return { refused: `/name: there is a schedule ${quoted(name)} already; cancel it first, or choose another name` };
      }
      if (this.#store.countOpen() >= this.#options.maxSchedules) {
        return { refused: `the server holds ${this.#options.maxSchedules} schedules, its most; cancel some first` };
      }
      if (known !== undefined && this.#running.has(known.id)) return { refused: stillRuns(name) };
      // It ended, and its history with it.
      if (known !== undefined) this.#store.remove(known.id);
      this.#store.add({ ...schedule, next: first });
      return this.#changed(name);
    }

    list(after: number, limit: number): ListedSchedule[] {
      return this.#store.list(after, limit).map((schedule) => this.#listed(schedule));
    }

    pause(name: string): ListedSchedule | Refusal {
      const schedule = this.#open(name);
      if ("refused" in schedule) return schedule;
      this.#store.setStatus(schedule.id, "paused", undefined);
      return this.#changed(name);
    }

    resume(name: string): ListedSchedule | Refusal {
      const schedule = this.#open(name);
      if ("refused" in schedule) return schedule;
      if (schedule.status === "active") return this.#listed(schedule);
      const next = nextTime(schedule.timing, schedule.created, Date.now());
      if (next === undefined) {
        return { refused: `the time of schedule ${quoted(name)} went by while it was paused; run_schedule_now, or cancel it` };
      }
      this.#store.setStatus(schedule.id, "active", next);
      return this.#changed(name);
    }

    cancel(name: string): ListedSchedule | Refusal {
      const schedule = this.#store.find(name);
      if (schedule === undefined) return unknown(name);
      const running = this.#running.get(schedule.id);
      if (!isOpen(schedule) && running === undefined) return ended(schedule);
      this.#end(schedule, "cancelled", Date.now());
      running?.abort();
      return this.#changed(name);
    }

    runNow(name: string): ListedSchedule | Refusal {
      const schedule = this.#open(name);
      if ("refused" in schedule) return schedule;
      if (this.#running.has(schedule.id)) return { refused: stillRuns(name) };
      if (this.#isFull()) return { refused: `${this.#running.size} runs go on, the server's most at a time; try again` };
      const now = Date.now();
      this.#start(schedule, "manual", now, now);
      return this.#changed(name);
    }

    history(name: string, before: number, limit: number): Run[] | Refusal {
      const schedule = this.#store.find(name);
      return schedule === undefined ? unknown(name) : this.#store.runs(schedule.id, before, limit);
    }

    /** Starts what is due, as far as there is room, and sets the alarm for the rest. */
    #startDue(): void {
      const now = Date.now();
      for (const schedule of this.#store.due(now)) {
        const busy = this.#running.has(schedule.id);
        if (!busy && this.#isFull()) continue;
        // However many times went by, they were one.
        const next = nextTime(schedule.timing, schedule.created, now);
        if (busy && next === undefined) {
          // Its only run waits for the one that was asked for by hand.
          this.#store.setStatus(schedule.id, "active", now + RETRY_MILLISECONDS);
          continue;
        }
        if (busy) this.#store.passOver(schedule);
        else this.#start(schedule, "schedule", dueOf(schedule, now), now);
        if (next === undefined) this.#end(schedule, "done", now);
        else this.#store.setStatus(schedule.id, "active", next);
      }
      this.#setAlarm();
    }

    #end({ id }: Schedule, status: "done" | "cancelled", now: number): void {
      this.#store.end(id, status, now, Math.max(LEAST_ENDED, this.#options.maxSchedules));
    }

    #start(schedule: Schedule, trigger: Trigger, due: number, now: number): void {
      const cancellation = new AbortController();
      this.#running.set(schedule.id, cancellation);
      const run = this.#store.begin(schedule, trigger, due, now, this.#options.keepRuns);
      this.ctx.waitUntil(this.#run(schedule, run, cancellation.signal));
    }

    async #run(schedule: Schedule, run: number, signal: AbortSignal): Promise<void> {
      // Not before the run and the schedule's next time are on disk.
      await this.ctx.storage.sync();
      const { status, output } = await this.#call(schedule, signal);
      this.#running.delete(schedule.id);
      this.#store.finish(run, signal.aborted ? "cancelled" : status, output, Date.now());
      this.#startDue();
    }

    async #call({ tool, parameters }: Schedule, signal: AbortSignal): Promise<{ status: RunStatus; output: string }> {
      if (signal.aborted) return { status: "cancelled", output: "was cancelled before it began" };
      if (!this.#host.catalog.tools.has(tool)) return { status: "failed", output: missingTool(tool) };
      try {
        const result = await callToolAlone(this.#host, tool, parameters, signal);
        return { status: result.isError ? "failed" : "succeeded", output: outputOf(result) };
      } catch (error) {
        return { status: "failed", output: error instanceof Error ? error.message : String(error) };
      }
    }

    #isFull(): boolean {
      return this.#running.size >= this.#options.maxConcurrentRuns;
    }

    #setAlarm(): void {
      const beat = this.#running.size > 0 ? Date.now() + BEAT_MILLISECONDS : Infinity;
      // Where all places are taken, what is due waits for a run to end.
      const next = this.#isFull() ? beat : Math.min(beat, this.#store.nextDue() ?? Infinity);
      if (next === Infinity) void this.ctx.storage.deleteAlarm();
      else void this.ctx.storage.setAlarm(next);
    }

    /** A schedule that has not ended. */
    #open(name: string): Schedule | Refusal {
      const schedule = this.#store.find(name);
      if (schedule === undefined) return unknown(name);
      return isOpen(schedule) ? schedule : ended(schedule);
    }

    #changed(name: string): ListedSchedule | Refusal {
      this.#setAlarm();
      const schedule = this.#store.find(name);
      return schedule === undefined ? unknown(name) : this.#listed(schedule);
    }

    #listed(schedule: Schedule): ListedSchedule {
      return { schedule, lastRun: this.#store.lastRun(schedule.id) };
    }
  };
}

/** What a definition without the tool says of it. */
export function missingTool(tool: string): string {
  return `the server has no tool ${quoted(tool)} any more`;
}

/** When a run should have begun; one that had to wait for another is late. */
function dueOf({ timing, next }: Schedule, now: number): number {
  return timing.kind === "at" ? timing.at : (next ?? now);
}

function isOpen({ status }: Schedule): boolean {
  return status === "active" || status === "paused";
}

function unknown(name: string): Refusal {
  return { refused: `there is no schedule ${quoted(name)}; list_schedules names them all` };
}

function ended({ name, status }: Schedule): Refusal {
  return { refused: `schedule ${quoted(name)} is ${status}` };
}

function stillRuns(name: string): string {
  return `schedule ${quoted(name)} still runs; wait for the end of its run`;
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

function outputOf(result: CallToolResult): string {
  const { content, structuredContent = null } = result;
  return content.length === 0 ? JSON.stringify(structuredContent) : textOf(result);
}
