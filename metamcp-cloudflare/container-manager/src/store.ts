import type { ProblemDetails } from "./problem.ts";

/** Of one row; SQLite in a Durable Object holds 2 MB in one. */
const PART_BYTES = 1024 * 1024;
/** What is kept of a job's output for its logs. */
const LOG_CHARACTERS = 512 * 1024;

export type JobKind = "build" | "environment" | "exec" | "warm_up";
export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface JobRow {
  id: string;
  seq: number;
  kind: JobKind;
  /** The environment of an `exec`. */
  environment: string | null;
  /** What was asked for, as JSON. */
  input: string;
  /** Where it runs, unless that is its environment's. */
  sandbox: string | null;
  state: JobState;
  /** Where its result is kept among the blobs. */
  result: string | null;
  error: string | null;
  ended: number | null;
}

export interface LogEntry {
  offset: number;
  stream: "stdout" | "stderr";
  text: string;
}

const SCHEMA = `
CREATE TABLE IF NOT EXISTS jobs (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
  environment TEXT, input TEXT NOT NULL, sandbox TEXT, state TEXT NOT NULL, result TEXT, error TEXT, ended INTEGER);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, seq);
CREATE TABLE IF NOT EXISTS environments (id TEXT PRIMARY KEY, sandbox TEXT NOT NULL, info TEXT NOT NULL,
  used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS logs (job TEXT NOT NULL, start INTEGER NOT NULL, stream TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (job, start));
CREATE TABLE IF NOT EXISTS blobs (key TEXT NOT NULL, part INTEGER NOT NULL, bytes BLOB NOT NULL, used INTEGER NOT NULL,
  PRIMARY KEY (key, part));
CREATE TABLE IF NOT EXISTS condemned (sandbox TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS warm (sandbox TEXT PRIMARY KEY, used INTEGER NOT NULL);
`;

/** Jobs, environments and results in the Durable Object's SQLite. */
export class Store {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    this.#sql.exec(SCHEMA);
  }

  add(id: string, kind: JobKind, environment: string | null, input: string): void {
    this.#sql.exec(
      "INSERT INTO jobs (id, kind, environment, input, state) VALUES (?, ?, ?, ?, 'queued')",
      id, kind, environment, input,
    );
  }

  job(id: string): JobRow | undefined {
    return this.#jobs("WHERE id = ?", id)[0];
  }

  /** In the order in which they came. */
  inState(state: JobState): JobRow[] {
    return this.#jobs("WHERE state = ? ORDER BY seq", state);
  }

  #jobs(where: string, value: string): JobRow[] {
    return this.#sql.exec(`SELECT * FROM jobs ${where}`, value).toArray() as unknown as JobRow[];
  }

  begin(id: string, sandbox: string | null): void {
    this.#sql.exec("UPDATE jobs SET state = 'running', sandbox = ? WHERE id = ?", sandbox, id);
  }

  /** Back into the queue, at its old place. */
  requeue(id: string): void {
    this.#sql.exec("UPDATE jobs SET state = 'queued', sandbox = NULL WHERE id = ?", id);
  }

  /** Ends a job, unless it has ended already. */
  end(id: string, state: JobState, outcome: { result?: string; error?: ProblemDetails }): void {
    const error = outcome.error === undefined ? null : JSON.stringify(outcome.error);
    this.#sql.exec(
      "UPDATE jobs SET state = ?, result = ?, error = ?, ended = ? WHERE id = ? AND state IN ('queued', 'running')",
      state, outcome.result ?? null, error, Date.now(), id,
    );
  }

  /** Adds to a job's log, as far as there is room. */
  log(job: string, stream: "stdout" | "stderr", text: string): void {
    const end = "SELECT start + length(text) AS size FROM logs WHERE job = ? ORDER BY start DESC LIMIT 1";
    const start = Number(this.#sql.exec(end, job).toArray()[0]?.["size"] ?? 0);
    // SQLite counts the characters of a text up to the first NUL.
    const kept = text.slice(0, LOG_CHARACTERS - start).replaceAll("\0", "\ufffd");
    if (kept !== "") this.#sql.exec("INSERT INTO logs VALUES (?, ?, ?, ?)", job, start, stream, kept);
  }

  /** What a job wrote from an offset on, and the offset to go on from. */
  logs(job: string, offset: number): { entries: LogEntry[]; next: number } {
    const rows = this.#sql
      .exec("SELECT start, stream, text FROM logs WHERE job = ? AND start + length(text) > ? ORDER BY start", job, offset)
      .toArray();
    let next = offset;
    const entries = rows.map((row) => {
      const start = Number(row["start"]);
      const from = Math.max(start, offset);
      // By characters, as SQLite counts them.
      const text = [...String(row["text"])].slice(from - start).join("");
      next = from + [...text].length;
      return { offset: from, stream: row["stream"] as LogEntry["stream"], text };
    });
    return { entries, next };
  }

  /** Keeps an environment, with what is installed in it as JSON. */
  putEnvironment(id: string, sandbox: string, info: string): void {
    this.#sql.exec("INSERT INTO environments VALUES (?, ?, ?, ?)", id, sandbox, info, Date.now());
  }

  environment(id: string): { sandbox: string; info: string } | undefined {
    const rows = this.#sql.exec("SELECT sandbox, info FROM environments WHERE id = ?", id).toArray();
    return rows[0] as { sandbox: string; info: string } | undefined;
  }

  touch(id: string): void {
    this.#sql.exec("UPDATE environments SET used = ? WHERE id = ?", Date.now(), id);
  }

  removeEnvironment(id: string): void {
    this.#sql.exec("DELETE FROM environments WHERE id = ?", id);
  }

  environments(): number {
    return Number(this.#sql.exec("SELECT count(*) AS n FROM environments").one()["n"]);
  }

  /** Environments that were not used since a time. */
  idleEnvironments(since: number): { id: string; sandbox: string }[] {
    const busy = "SELECT environment FROM jobs WHERE state IN ('queued', 'running') AND environment IS NOT NULL";
    return this.#sql
      .exec(`SELECT id, sandbox FROM environments WHERE used < ? AND id NOT IN (${busy})`, since)
      .toArray() as unknown as { id: string; sandbox: string }[];
  }

  putWarm(sandbox: string): void {
    this.#sql.exec("INSERT OR REPLACE INTO warm VALUES (?, ?)", sandbox, Date.now());
  }

  takeWarm(): string | undefined {
    const rows = this.#sql.exec("DELETE FROM warm WHERE sandbox = (SELECT max(sandbox) FROM warm) RETURNING sandbox").toArray();
    return rows[0] === undefined ? undefined : String(rows[0]["sandbox"]);
  }

  countWarm(): number {
    return Number(this.#sql.exec("SELECT count(*) AS n FROM warm").one()["n"]);
  }

  /** Whether a sandbox goes on when its job has ended. */
  isKept(sandbox: string): boolean {
    const kept = "SELECT sandbox FROM warm UNION SELECT sandbox FROM environments";
    return this.#sql.exec(`SELECT 1 FROM (${kept}) WHERE sandbox = ?`, sandbox).toArray().length > 0;
  }

  /** Warm sandboxes that nobody wanted since a time; they are no longer warm then. */
  takeIdleWarm(since: number): string[] {
    const rows = this.#sql.exec("DELETE FROM warm WHERE used < ? RETURNING sandbox", since).toArray();
    return rows.map((row) => String(row["sandbox"]));
  }

  /** A sandbox that is to be destroyed, however often that has to be tried. It takes a place until then. */
  condemn(sandbox: string): void {
    this.#sql.exec("INSERT OR IGNORE INTO condemned VALUES (?)", sandbox);
  }

  condemned(): string[] {
    return this.#sql.exec("SELECT sandbox FROM condemned").toArray().map((row) => String(row["sandbox"]));
  }

  forget(sandbox: string): void {
    this.#sql.exec("DELETE FROM condemned WHERE sandbox = ?", sandbox);
  }

  putBlob(key: string, bytes: Uint8Array): void {
    this.#sql.exec("DELETE FROM blobs WHERE key = ?", key);
    for (let part = 0; part === 0 || part * PART_BYTES < bytes.length; part++) {
      const slice = bytes.slice(part * PART_BYTES, (part + 1) * PART_BYTES);
      this.#sql.exec("INSERT INTO blobs VALUES (?, ?, ?, ?)", key, part, slice.buffer, Date.now());
    }
  }

  /** A blob, which is then kept for longer. */
  blob(key: string): Uint8Array | undefined {
    const rows = this.#sql.exec("SELECT bytes FROM blobs WHERE key = ? ORDER BY part", key).toArray();
    if (rows.length === 0) return undefined;
    this.#sql.exec("UPDATE blobs SET used = ? WHERE key = ?", Date.now(), key);
    const parts = rows.map((row) => new Uint8Array(row["bytes"] as ArrayBuffer));
    const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  /** Forgets jobs that ended before a time, with their results, and blobs that nobody asked for since another. */
  sweep(jobsBefore: number, blobsBefore: number): void {
    this.#sql.exec("DELETE FROM jobs WHERE ended < ?", jobsBefore);
    this.#sql.exec("DELETE FROM logs WHERE job NOT IN (SELECT id FROM jobs)");
    this.#sql.exec("DELETE FROM blobs WHERE key LIKE 'job:%' AND substr(key, 5) NOT IN (SELECT id FROM jobs)");
    this.#sql.exec("DELETE FROM blobs WHERE key NOT LIKE 'job:%' AND used < ?", blobsBefore);
  }

  /** Whether sandboxes run, or may run still. */
  hasSandboxes(): boolean {
    return this.#count(["environments", "warm", "condemned"]) > 0;
  }

  isEmpty(): boolean {
    return this.#count(["jobs", "environments", "warm", "condemned", "blobs"]) === 0;
  }

  #count(tables: string[]): number {
    const counts = tables.map((table) => `(SELECT count(*) FROM ${table})`);
    return Number(this.#sql.exec(`SELECT ${counts.join(" + ")} AS n`).one()["n"]);
  }
}
