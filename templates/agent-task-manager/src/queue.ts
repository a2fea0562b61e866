import { DurableObject } from "cloudflare:workers";
import type { Host } from "./runtime/call.ts";
import type { Environment } from "./runtime/environment.ts";
import { failure, optionsOf, protocolFailure, runAttempt } from "./attempt.ts";
import { Ledger } from "./ledger.ts";
import type { Enqueued, Page, PageRequest, QueueCalls, QueueState } from "./queue-binding.ts";
import { clientOf, resultOf, TaskStore, type Row } from "./store.ts";
import type { QueueOptions, TaskDetail, TaskSpec } from "./task.ts";

/** An alarm may take 15 minutes, and a tool 10 of them; after so long its handler begins nothing new, the next one does. */
const SHIFT_MS = 4 * 60 * 1000;
/** What an attempt may take beyond its tool's own time. */
const LEASE_GRACE_MS = 5000;
/** The pauses between two looks at the tasks, where nothing happens that would be a reason to look. */
const SHORTEST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 60 * 60 * 1000;

/** A task that is being attempted. */
interface Running {
  tool: string;
  cancellation: AbortController;
}

/**
 * The Durable Object that keeps a server's tasks and runs them. They run in `alarm`, which the platform repeats until
 * it ends well: so a task runs whether or not somebody waits, and again where its process ended in the middle. Its one
 * object is the only one that writes, so whatever is marked as running while it is not in memory was interrupted.
 */
export function createQueueClass(hostOf: (env: Environment) => Host) {
  return class TaskQueue extends DurableObject<Environment> implements QueueCalls {
    readonly #tasks: TaskStore;
    readonly #ledger: Ledger;
    readonly #options: QueueOptions;
    readonly #running = new Map<string, Running>();
    /** Present while the alarm's handler works: makes it look for something new to do. */
    #look: (() => void) | undefined;

    constructor(state: DurableObjectState, env: Environment) {
      super(state, env);
      this.#options = optionsOf(hostOf(env));
      this.#tasks = new TaskStore(state.storage.sql);
      this.#ledger = new Ledger(this.#tasks, this.#options.maxTasks);
      this.#recover(Date.now());
      void state.blockConcurrencyWhile(() => this.#schedule());
    }

    override async alarm(): Promise<void> {
      await this.#work(Date.now() + SHIFT_MS);
      await this.#schedule();
    }

    async enqueue(spec: TaskSpec): Promise<Enqueued> {
      const enqueued = this.#ledger.add(spec, Date.now());
      await this.#begin();
      return enqueued;
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

    async cancel(id: string, reason: string): Promise<TaskDetail | undefined> {
      const row = this.#present(id);
      if (row === undefined) return undefined;
      this.#ledger.cancel(row, reason, Date.now());
      this.#running.get(id)?.cancellation.abort();
      await this.#begin();
      return this.get(id);
    }

    async retry(id: string): Promise<Enqueued | undefined> {
      const row = this.#present(id);
      const enqueued = row && this.#ledger.retry(row, Date.now());
      await this.#begin();
      return enqueued;
    }

    async answer(id: string, responses: Record<string, unknown>): Promise<boolean> {
      const row = this.#present(id);
      if (row === undefined) return false;
      this.#ledger.answer(row, responses, Date.now());
      await this.#begin();
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
        this.#recover(Date.now());
        this.#ledger.giveUp(Date.now());
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
      if (this.#running.size >= this.#most()) return LEASE_GRACE_MS;
      const next = (this.#tasks.nextMoment() ?? Infinity) - Date.now();
      return Math.min(Math.max(SHORTEST_PAUSE_MS, next), LONGEST_PAUSE_MS);
    }

    /** Begins what may run, as much as there is room for. */
    #fill(until: number): void {
      while (this.#running.size < this.#most() && Date.now() < until) {
        const row = this.#tasks.next(Date.now(), this.#fullTools());
        if (row === undefined) return;
        void this.#run(row);
      }
    }

    /** Attempts at the same time: one of the server's own slots is left to its clients. */
    #most(): number {
      const { concurrency = Infinity } = hostOf(this.env).catalog.definition.limits;
      return Math.min(this.#options.concurrency, Math.max(1, concurrency - 1));
    }

    /** Tools of which as many tasks run as their own limit allows. */
    #fullTools(): string[] {
      const { tools } = hostOf(this.env).catalog;
      const running = Map.groupBy(this.#running.values(), ({ tool }) => tool);
      const limit = (tool: string) => tools.get(tool)?.definition.limits.concurrency ?? Infinity;
      return [...running].flatMap(([tool, { length }]) => (length >= limit(tool) ? [tool] : []));
    }

    async #run(row: Row): Promise<void> {
      const host = hostOf(this.env);
      const now = Date.now();
      const timeoutMs = host.catalog.tools.get(row.tool)?.body.timeoutMs ?? 0;
      const number = this.#ledger.begin(row, now + timeoutMs + LEASE_GRACE_MS, now);
      const running = { tool: row.tool, cancellation: new AbortController() };
      this.#running.set(row.id, running);
      try {
        const outcome = await runAttempt(host, {
          tool: row.tool,
          arguments: JSON.parse(row.arguments),
          client: clientOf(row),
          signal: running.cancellation.signal,
          resultOf: (task) => {
            const found = this.#tasks.find(task);
            return found && resultOf(found);
          },
        });
        this.#ledger.finish(row.id, number, outcome, Date.now());
      } catch (error) {
        // The storage failed: the task is still marked as running, and is taken for interrupted.
        console.error(`task ${row.id}: ${String(error)}`);
      } finally {
        if (this.#running.get(row.id) === running) this.#running.delete(row.id);
        this.#look?.();
      }
    }

    /** Ends attempts that nobody makes any more, and those whose time is long over. */
    #recover(now: number): void {
      for (const { id, attempts, lease } of this.#tasks.withStatus("running")) {
        const running = this.#running.get(id);
        if (running === undefined) {
          const message = `the server's process ended in the middle of attempt ${attempts}`;
          this.#ledger.finish(id, attempts, protocolFailure({ code: -32603, message }, "interrupted"), now);
        } else if (lease !== null && lease < now) {
          running.cancellation.abort();
          const message = `attempt ${attempts} did not end within its time`;
          this.#ledger.finish(id, attempts, failure("timeout", message), now);
        }
      }
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

    /** A task whose time is not over. */
    #present(id: string): Row | undefined {
      const row = this.#tasks.find(id);
      return row === undefined || (row.expires ?? Infinity) <= Date.now() ? undefined : row;
    }
  };
}
