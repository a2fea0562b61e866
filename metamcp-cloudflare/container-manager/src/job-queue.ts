import { DurableObject } from "cloudflare:workers";
import { build, digest, type PackageSet } from "./build.ts";
import type { Env } from "./env.ts";
import { handle } from "./http.ts";
import type { JobInput } from "./input.ts";
import { detailsOf, Problem, problemResponse } from "./problem.ts";
import { type Command, type OutputListener, type Sandbox, sandbox } from "./sandbox.ts";
import { type JobRow, Store } from "./store.ts";
import { VERSION } from "./version.ts";

const MINUTE = 60_000;
/** An environment that nobody uses for so long is destroyed: its client is gone. */
const IDLE_MS = 15 * MINUTE;
/** How long a job that ended can be asked about. */
const JOB_MS = 60 * MINUTE;
/** How long bundles and lock files are kept unused. */
const BLOB_MS = 30 * 24 * 60 * MINUTE;
/** An alarm may run for 15 minutes; while it does, the object is not evicted. */
const ALARM_MS = 10 * MINUTE;
/** So many jobs may wait. */
const MAX_QUEUED = 100;
const MANIFEST: Command = { line: "cat /opt/metamcp/manifest.json", cwd: "", timeoutMs: 60_000, env: {} };

/** A job as a client sees it. */
export interface JobStatus {
  id: string;
  kind: string;
  state: string;
  /** Place in line, from 1, while it is queued. */
  place?: number;
  result?: unknown;
  error?: unknown;
}

/**
 * The one object that knows all jobs and environments, and lets so many containers run at once as the account has.
 *
 * Its alarm is on as long as anything runs, so that it stays in memory. If it is restarted all the same, builds begin
 * again, and a command that ran has failed.
 */
export class JobQueue extends DurableObject<Env> {
  readonly #store: Store;
  /** What is being worked on: longer than its state says so, if it was cancelled. */
  readonly #running = new Map<string, { environment: string | null; stop: AbortController }>();
  readonly #work = new Set<Promise<void>>();
  readonly #waiting = new Set<() => void>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#store = new Store(ctx.storage.sql);
    for (const job of this.#store.inState("running")) this.#recover(job);
  }

  override async fetch(request: Request): Promise<Response> {
    try {
      return await handle(request, this);
    } catch (error) {
      return problemResponse(error);
    }
  }

  /** Starts a job. The same id with the same input again is the same job. */
  async submit(id: string, input: JobInput): Promise<JobStatus> {
    const text = JSON.stringify(input);
    const known = this.#store.job(id);
    if (known !== undefined && known.state !== "cancelled" && known.input !== text) {
      throw new Problem("conflict", `job ${id} exists, with other contents`, "choose a new id");
    }
    if (known !== undefined) return this.status(id);
    if (this.#store.inState("queued").length >= MAX_QUEUED) {
      throw new Problem("unavailable", `${MAX_QUEUED} jobs wait already`, "try again later");
    }
    if (input.kind === "exec" && this.#store.environment(input.environment) === undefined) throw noEnvironment(input.environment);
    this.#store.add(id, input.kind, input.kind === "exec" ? input.environment : null, text);
    this.#pump();
    // Whatever becomes of this request, the alarm goes on with the job.
    await this.ctx.storage.setAlarm(Date.now());
    return this.status(id);
  }

  status(id: string): JobStatus {
    const job = this.#store.job(id);
    if (job === undefined) throw new Problem("not_found", `job ${id} does not exist`, "results are kept for an hour");
    const status: JobStatus = { id, kind: job.kind, state: job.state };
    if (job.state === "queued") status.place = 1 + this.#ahead(job);
    if (job.error !== null) status.error = JSON.parse(job.error);
    const result = this.#store.blob(`job:${id}`);
    if (result !== undefined) status.result = JSON.parse(new TextDecoder().decode(result));
    return status;
  }

  /**
   * The status, once the job has ended or the time is over; with a place, as soon as the job has another one (0 when it
   * waits no more).
   */
  async wait(id: string, ms: number, place?: number): Promise<JobStatus> {
    const deadline = Date.now() + ms;
    for (;;) {
      const status = this.status(id);
      const hasMoved = place !== undefined && (status.place ?? 0) !== place;
      const left = deadline - Date.now();
      if (hasMoved || hasEnded(status) || left <= 0) return status;
      await this.#change(left);
    }
  }

  /** What a job wrote from an offset on, once there is something, the job has ended, or the time is over. */
  async logs(id: string, offset: number, ms: number): Promise<unknown> {
    const deadline = Date.now() + ms;
    for (;;) {
      const status = this.status(id);
      const found = this.#store.logs(id, offset);
      const left = deadline - Date.now();
      if (found.entries.length > 0 || hasEnded(status) || left <= 0) return { ...found, state: status.state };
      await this.#change(left);
    }
  }

  /** What a build made. */
  artifact(id: string): Uint8Array {
    const job = this.#store.job(id);
    const bytes = job?.result == null ? undefined : this.#store.blob(job.result);
    if (bytes === undefined) throw new Problem("not_found", `job ${id} has no artifact`);
    return bytes;
  }

  /** Ends a job. One that is not known is cancelled ahead, since its start may be on its way. */
  cancel(id: string): JobStatus {
    const job = this.#store.job(id);
    if (job === undefined) this.#store.add(id, "exec", null, "");
    if (job?.state === "running" && job.sandbox !== null) this.#store.condemn(job.sandbox);
    this.#store.end(id, "cancelled", {});
    this.#running.get(id)?.stop.abort();
    this.#notify();
    this.#pump();
    return this.status(id);
  }

  /** What is installed in an environment. */
  info(id: string): unknown {
    const environment = this.#store.environment(id);
    if (environment === undefined) throw noEnvironment(id);
    this.#store.touch(id);
    return { containerId: id, ...JSON.parse(environment.info) };
  }

  /** The sandbox of an environment that is being used. */
  files(id: string): Sandbox {
    const environment = this.#store.environment(id);
    if (environment === undefined) throw noEnvironment(id);
    this.#store.touch(id);
    return sandbox(this.env, environment.sandbox);
  }

  /** Ends an environment with its commands. Idempotent. */
  async destroy(id: string): Promise<void> {
    const environment = this.#store.environment(id);
    if (environment === undefined) return;
    this.#store.removeEnvironment(id);
    this.#store.condemn(environment.sandbox);
    const jobs = [...this.#store.inState("running"), ...this.#store.inState("queued")];
    for (const job of jobs.filter((job) => job.environment === id)) this.cancel(job.id);
    await this.#destroy(environment.sandbox);
  }

  health(): unknown {
    return {
      version: VERSION,
      maxInstances: this.#max(),
      environments: this.#store.environments(),
      warm: this.#store.countWarm(),
      running: this.#store.inState("running").length,
      queued: this.#store.inState("queued").length,
    };
  }

  override async alarm(): Promise<void> {
    const deadline = Date.now() + ALARM_MS;
    await this.#tidy();
    this.#pump();
    while (this.#work.size > 0 && Date.now() < deadline) {
      await Promise.race([...this.#work, scheduler.wait(deadline - Date.now())]);
    }
    const next = this.#work.size > 0 ? 0 : this.#store.hasSandboxes() ? MINUTE : 60 * MINUTE;
    if (!this.#store.isEmpty()) await this.ctx.storage.setAlarm(Date.now() + next);
  }

  #max(): number {
    return Math.max(1, Number(this.env.MAX_INSTANCES ?? 3) || 3);
  }

  /** How many jobs that need what this one needs come before it. */
  #ahead(job: JobRow): number {
    return this.#store.inState("queued").filter((other) => other.seq < job.seq && other.environment === job.environment).length;
  }

  /** Starts what can be started, in order. */
  #pump(): void {
    const busy = new Set([...this.#running.values()].map(({ environment }) => environment));
    let free = this.#max() - this.#taken();
    for (const job of this.#store.inState("queued")) {
      if (job.environment !== null) {
        if (busy.has(job.environment)) continue;
        busy.add(job.environment);
        this.#start(job, null);
      } else if (job.kind === "warm_up" && (free <= 0 || this.#store.countWarm() > 0)) {
        // There is one already, or somebody else needs the place.
        this.#finish(job, {});
      } else {
        const warm = job.kind === "warm_up" ? undefined : this.#store.takeWarm();
        if (warm === undefined && free <= 0) continue;
        if (warm === undefined) free -= 1;
        this.#start(job, warm ?? crypto.randomUUID());
      }
    }
  }

  /** How many sandboxes there are, or are to be. */
  #taken(): number {
    const running = this.#store.inState("running").filter(({ environment }) => environment === null).length;
    return running + this.#store.environments() + this.#store.countWarm() + this.#store.condemned().length;
  }

  #start(job: JobRow, place: string | null): void {
    const stop = new AbortController();
    this.#store.begin(job.id, place);
    this.#running.set(job.id, { environment: job.environment, stop });
    const work = this.#perform(job, place, stop.signal).finally(() => {
      this.#running.delete(job.id);
      this.#work.delete(work);
      this.#notify();
      this.#pump();
    });
    this.#work.add(work);
    this.#notify();
  }

  /** Never rejects: a failure is the job's. */
  async #perform(job: JobRow, place: string | null, signal: AbortSignal): Promise<void> {
    try {
      const input = JSON.parse(job.input) as JobInput;
      if (input.kind === "exec") await this.#exec(job, input, signal);
      else if (input.kind === "build") await this.#build(job, place!, input.packages, signal);
      else await this.#open(job, place!, signal);
    } catch (error) {
      this.#store.end(job.id, "failed", { error: detailsOf(error) });
    }
    // One that cannot be destroyed now is condemned, and the alarm tries again.
    if (place !== null && !this.#store.isKept(place)) await this.#destroy(place).catch(() => {});
  }

  async #exec(job: JobRow, { environment, command }: JobInput & { kind: "exec" }, signal: AbortSignal): Promise<void> {
    const output = await this.files(environment).run(command, this.#logging(job), signal);
    this.#store.touch(environment);
    this.#finish(job, output);
  }

  async #build(job: JobRow, place: string, packages: PackageSet, signal: AbortSignal): Promise<void> {
    const bundle = `bundle:${VERSION}:${await digest(packages.dependencies, packages.imports)}`;
    const lock = `lock:${await digest(packages.dependencies, undefined)}`;
    if (this.#store.blob(bundle) === undefined) {
      const kept = this.#store.blob(lock);
      const lockfile = kept && new TextDecoder().decode(kept);
      const where = sandbox(this.env, place);
      await where.start();
      const bytes = await build(where, packages, lockfile, this.#logging(job), signal);
      const made = JSON.parse(new TextDecoder().decode(bytes)) as { lockfile: string };
      this.#store.putBlob(lock, new TextEncoder().encode(made.lockfile));
      this.#store.putBlob(bundle, bytes);
    }
    this.#store.end(job.id, "done", { result: bundle });
  }

  /** Starts a sandbox that stays: as an environment, or for the next one who needs it. */
  async #open(job: JobRow, place: string, signal: AbortSignal): Promise<void> {
    const where = sandbox(this.env, place);
    await where.start();
    const manifest = await where.run(MANIFEST, () => {}, signal);
    if (manifest.exitCode !== 0) throw new Problem("unavailable", `the image has no manifest: ${manifest.stderr}`);
    if (this.#store.job(job.id)?.state !== "running") return;
    if (job.kind === "warm_up") this.#store.putWarm(place);
    else this.#store.putEnvironment(job.id, place, manifest.stdout);
    this.#finish(job, { containerId: job.id, ...JSON.parse(manifest.stdout) });
  }

  #logging(job: JobRow): OutputListener {
    return (stream, text) => {
      this.#store.log(job.id, stream, text);
      this.#notify();
    };
  }

  #finish(job: JobRow, result: unknown): void {
    this.#store.putBlob(`job:${job.id}`, new TextEncoder().encode(JSON.stringify(result)));
    this.#store.end(job.id, "done", {});
  }

  async #destroy(place: string): Promise<void> {
    this.#store.condemn(place);
    await sandbox(this.env, place).destroy();
    this.#store.forget(place);
    this.#pump();
  }

  /** Ends what nobody uses, and tries again what could not be ended. */
  async #tidy(): Promise<void> {
    const now = Date.now();
    this.#store.sweep(now - JOB_MS, now - BLOB_MS);
    for (const place of this.#store.takeIdleWarm(now - IDLE_MS)) this.#store.condemn(place);
    for (const { id } of this.#store.idleEnvironments(now - IDLE_MS)) await this.destroy(id).catch(() => {});
    for (const place of this.#store.condemned()) await this.#destroy(place).catch(() => {});
  }

  /** What ran when the object was last in memory. */
  #recover(job: JobRow): void {
    if (job.sandbox !== null) this.#store.condemn(job.sandbox);
    if (job.environment === null) {
      this.#store.requeue(job.id);
    } else {
      const message = "the Container Manager was restarted while the command ran";
      const error = { kind: "unavailable" as const, message, help: "look at what it did, then run it again" };
      this.#store.end(job.id, "failed", { error });
    }
  }

  #change(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#waiting.add(done);
    });
  }

  #notify(): void {
    for (const done of [...this.#waiting]) done();
  }
}

const hasEnded = ({ state }: JobStatus) => state !== "queued" && state !== "running";

function noEnvironment(id: string): Problem {
  return new Problem("not_found", `environment ${id} does not exist`, "one that is not used for 15 minutes is destroyed");
}
