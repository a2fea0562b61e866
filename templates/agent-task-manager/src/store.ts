import type { CallToolResult } from "@modelcontextprotocol/server";
import type { AttemptView, Settings, Status, TaskClient, TaskDetail, TaskError, TaskSpec, TaskSummary } from "./task.ts";

/** A row of `task`; texts that hold JSON are read by the functions below. */
export type Row = {
  seq: number;
  id: string;
  tool: string;
  arguments: string;
  status: Status;
  priority: number;
  /** It may run from this moment on. */
  due: number;
  /** When it is given up that is blocked, or waits for answers. */
  parked: number | null;
  created: number;
  updated: number;
  ended: number | null;
  expires: number | null;
  /** Until when the running attempt has ended for certain. */
  lease: number | null;
  attempts: number;
  /** Attempts that may still begin. */
  remaining: number;
  settings: string;
  key: string | null;
  reason: string | null;
  result: string | null;
  error: string | null;
  client: string | null;
};

/** What changes in a task; columns that are left out stay as they are. */
export type Change = Partial<Omit<Row, "seq" | "id" | "tool" | "arguments" | "created" | "updated">>;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS task (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tool TEXT NOT NULL, arguments TEXT NOT NULL,
    status TEXT NOT NULL, priority INTEGER NOT NULL, due INTEGER NOT NULL, parked INTEGER, created INTEGER NOT NULL,
    updated INTEGER NOT NULL, ended INTEGER, expires INTEGER, lease INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
    remaining INTEGER NOT NULL, settings TEXT NOT NULL, key TEXT UNIQUE, reason TEXT, result TEXT, error TEXT, client TEXT
  );
  CREATE INDEX IF NOT EXISTS task_order ON task (status, priority DESC, seq);
  CREATE INDEX IF NOT EXISTS task_due ON task (status, due);
  CREATE INDEX IF NOT EXISTS task_parked ON task (parked);
  CREATE INDEX IF NOT EXISTS task_expires ON task (expires);
  CREATE TABLE IF NOT EXISTS dependency (
    task TEXT NOT NULL, dependency TEXT NOT NULL, PRIMARY KEY (task, dependency)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS dependency_of ON dependency (dependency);
  CREATE TABLE IF NOT EXISTS attempt (
    task TEXT NOT NULL, number INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER, outcome TEXT NOT NULL,
    message TEXT, PRIMARY KEY (task, number)
  ) WITHOUT ROWID;
`;

/** Every SQL statement of the queue. What it writes between two `await`s becomes durable as one. */
export class TaskStore {
  constructor(readonly sql: SqlStorage) {
    sql.exec(SCHEMA);
  }

  insert(id: string, spec: TaskSpec, status: Status, now: number): void {
    this.sql.exec(
      `INSERT INTO task (id, tool, arguments, status, priority, due, created, updated, remaining, settings, key, client)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      ...[id, spec.tool, JSON.stringify(spec.arguments), status, spec.priority, now + spec.delayMs, now, now],
      ...[spec.settings.maxAttempts, JSON.stringify(spec.settings), spec.idempotencyKey ?? null],
      spec.client === undefined ? null : JSON.stringify(spec.client),
    );
    for (const dependency of spec.dependsOn) {
      this.sql.exec("INSERT OR IGNORE INTO dependency (task, dependency) VALUES (?, ?)", id, dependency);
    }
  }

  change(id: string, change: Change, now: number): void {
    const columns = Object.entries({ ...change, updated: now });
    const assignments = columns.map(([name]) => `${name} = ?`).join(", ");
    this.sql.exec(`UPDATE task SET ${assignments} WHERE id = ?`, ...columns.map(([, value]) => value), id);
  }

  find(id: string): Row | undefined {
    return this.sql.exec<Row>("SELECT * FROM task WHERE id = ?", id).toArray()[0];
  }

  findByKey(key: string): Row | undefined {
    return this.sql.exec<Row>("SELECT * FROM task WHERE key = ?", key).toArray()[0];
  }

  withStatus(status: Status): Row[] {
    return this.sql.exec<Row>("SELECT * FROM task WHERE status = ?", status).toArray();
  }

  /** The task that is to run next, of the tools that are not full. */
  next(now: number, full: string[]): Row | undefined {
    const possible = `status = 'ready' AND due <= ? AND tool NOT IN (${full.map(() => "?").join(", ")})`;
    const query = `SELECT * FROM task WHERE ${possible} ORDER BY priority DESC, seq LIMIT 1`;
    return this.sql.exec<Row>(query, now, ...full).toArray()[0];
  }

  /** Parked tasks that are given up by now. */
  givenUp(now: number): Row[] {
    return this.sql.exec<Row>("SELECT * FROM task WHERE parked <= ?", now).toArray();
  }

  /** When there will be something to do without anybody asking. */
  nextMoment(): number | undefined {
    const moments = `SELECT min(moment) AS moment FROM (
      SELECT min(due) AS moment FROM task WHERE status = 'ready' UNION ALL
      SELECT min(parked) FROM task UNION ALL
      SELECT min(lease) FROM task WHERE status = 'running')`;
    return this.sql.exec<{ moment: number | null }>(moments).one().moment ?? undefined;
  }

  /** Newest first. */
  list(statuses: Status[], tool: string | undefined, before: number, limit: number): Row[] {
    const marks = statuses.map(() => "?").join(", ");
    const where = `client IS NULL AND seq < ? AND (? IS NULL OR tool = ?) AND status IN (${marks})`;
    const query = `SELECT * FROM task WHERE ${where} ORDER BY seq DESC LIMIT ?`;
    return this.sql.exec<Row>(query, before, tool ?? null, tool ?? null, ...statuses, limit).toArray();
  }

  counts(): Record<string, number> {
    const counts = this.sql.exec<{ status: Status; count: number }>("SELECT status, count(*) AS count FROM task GROUP BY status");
    return Object.fromEntries(counts.toArray().map(({ status, count }) => [status, count]));
  }

  size(): number {
    return this.sql.exec<{ count: number }>("SELECT count(*) AS count FROM task").one().count;
  }

  dependencies(task: string): string[] {
    const rows = this.sql.exec<{ dependency: string }>("SELECT dependency FROM dependency WHERE task = ?", task);
    return rows.toArray().map(({ dependency }) => dependency);
  }

  dependents(task: string): string[] {
    const rows = this.sql.exec<{ task: string }>("SELECT task FROM dependency WHERE dependency = ?", task);
    return rows.toArray().map((row) => row.task);
  }

  beginAttempt(task: string, number: number, now: number): void {
    this.sql.exec("INSERT INTO attempt (task, number, started, outcome) VALUES (?, ?, ?, 'running')", task, number, now);
  }

  endAttempt(task: string, number: number, now: number, outcome: string, message?: string): void {
    const end = "UPDATE attempt SET ended = ?, outcome = ?, message = ? WHERE task = ? AND number = ?";
    this.sql.exec(end, now, outcome, message ?? null, task, number);
  }

  /** An attempt did not even begin. */
  forgetAttempt(task: string, number: number): void {
    this.sql.exec("DELETE FROM attempt WHERE task = ? AND number = ?", task, number);
  }

  /** Removes tasks whose time is over, unless an unfinished one depends on them. */
  purge(now: number): void {
    this.#remove("expires <= ?", "seq", BATCH, now);
  }

  /** Removes the task that ended longest ago, a client's call only where there is no other; whether there was one. */
  makeRoom(keep: string[]): boolean {
    const condition = "ended IS NOT NULL AND id NOT IN (SELECT value FROM json_each(?))";
    return this.#remove(condition, "client IS NOT NULL, ended", 1, JSON.stringify(keep));
  }

  #remove(condition: string, order: string, most: number, ...values: (number | string)[]): boolean {
    const unneeded = `NOT EXISTS (SELECT 1 FROM dependency JOIN task AS other ON other.id = dependency.task
      WHERE dependency.dependency = task.id AND other.ended IS NULL)`;
    const query = `SELECT id FROM task WHERE ${condition} AND ${unneeded} ORDER BY ${order} LIMIT ?`;
    const found = this.sql.exec<{ id: string }>(query, ...values, most).toArray();
    for (const { id } of found) {
      this.sql.exec("DELETE FROM attempt WHERE task = ?", id);
      this.sql.exec("DELETE FROM dependency WHERE task = ?", id);
      this.sql.exec("DELETE FROM task WHERE id = ?", id);
    }
    return found.length > 0;
  }

  summary(row: Row): TaskSummary {
    return {
      id: row.id,
      tool: row.tool,
      status: row.status,
      priority: row.priority,
      createdAt: time(row.created),
      updatedAt: time(row.updated),
      ...(row.status === "ready" && { dueAt: time(row.due) }),
      ...(row.ended !== null && { endedAt: time(row.ended) }),
      attempts: row.attempts,
      maxAttempts: settingsOf(row).maxAttempts,
      dependsOn: this.dependencies(row.id),
      ...(row.reason !== null && { reason: row.reason }),
    };
  }

  detail(row: Row): TaskDetail {
    const [result, error] = [resultOf(row), errorOf(row)];
    return {
      ...this.summary(row),
      arguments: JSON.parse(row.arguments),
      history: this.#history(row.id),
      ...(result && { result }),
      ...(error && { error }),
      ...(row.expires !== null && { expiresAt: time(row.expires) }),
      ...(row.status === "input_required" && { questions: clientOf(row)?.open ?? {} }),
    };
  }

  #history(task: string): AttemptView[] {
    type Attempt = { number: number; started: number; ended: number | null; outcome: string; message: string | null };
    const attempts = this.sql.exec<Attempt>("SELECT * FROM attempt WHERE task = ? ORDER BY number", task).toArray();
    return attempts.map(({ number, started, ended, outcome, message }) => ({
      number,
      startedAt: time(started),
      ...(ended !== null && { endedAt: time(ended) }),
      outcome,
      ...(message !== null && { message }),
    }));
  }
}

/** Removed at once, so that nobody waits long for it. */
const BATCH = 200;

export function settingsOf({ settings }: Row): Settings {
  return JSON.parse(settings);
}

export function clientOf({ client }: Row): TaskClient | undefined {
  return client === null ? undefined : JSON.parse(client);
}

export function resultOf({ result }: Row): CallToolResult | undefined {
  return result === null ? undefined : JSON.parse(result);
}

export function errorOf({ error }: Row): TaskError | undefined {
  return error === null ? undefined : JSON.parse(error);
}

function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
