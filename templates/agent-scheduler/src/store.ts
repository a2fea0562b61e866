import type { Timing } from "./timing.ts";

export type ScheduleStatus = "active" | "paused" | "done" | "cancelled";
export type RunStatus = "running" | "succeeded" | "failed" | "cancelled" | "interrupted";
export type Trigger = "schedule" | "manual";

export interface Schedule {
  id: number;
  name: string;
  tool: string;
  parameters: Record<string, unknown>;
  timing: Timing;
  status: ScheduleStatus;
  created: number;
  /** When it runs next; only while it is active. */
  next: number | undefined;
}

export interface Run {
  id: number;
  schedule: number;
  trigger: Trigger;
  due: number;
  started: number;
  ended: number | null;
  status: RunStatus;
  /** Times that came while this run still went on. */
  passedOver: number;
  output: string | null;
}

type ScheduleRow = Pick<Schedule, "id" | "name" | "tool" | "status" | "created"> & {
  parameters: string;
  timing: string;
  next: number | null;
};
const RUN_COLUMNS = `id, schedule, "trigger", due, started, ended, status, passed_over AS passedOver, output`;
const MOST_OUTPUT_CHARACTERS = 8192;

/** The scheduler's tables. Every method is one turn, which SQLite Durable Objects write as a whole or not at all. */
export class ScheduleStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS schedule (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, tool TEXT NOT NULL, parameters TEXT NOT NULL,
        timing TEXT NOT NULL, status TEXT NOT NULL, created INTEGER NOT NULL, ended INTEGER, next INTEGER
      );
      CREATE INDEX IF NOT EXISTS schedule_next ON schedule (next) WHERE next IS NOT NULL;
      CREATE TABLE IF NOT EXISTS run (
        id INTEGER PRIMARY KEY AUTOINCREMENT, schedule INTEGER NOT NULL, "trigger" TEXT NOT NULL, due INTEGER NOT NULL,
        started INTEGER NOT NULL, ended INTEGER, status TEXT NOT NULL, passed_over INTEGER NOT NULL DEFAULT 0, output TEXT
      );
      CREATE INDEX IF NOT EXISTS run_schedule ON run (schedule, id);
      CREATE INDEX IF NOT EXISTS run_running ON run (schedule) WHERE status = 'running';
    `);
  }

  /** Runs that no object works on any more: whether their tools did anything, nobody knows. */
  interruptRunning(): void {
    this.#sql.exec("UPDATE run SET status = 'interrupted' WHERE status = 'running'");
  }

  /** Schedules that will run or may be resumed. */
  countOpen(): number {
    return this.#count("SELECT count(*) AS count FROM schedule WHERE status IN ('active', 'paused')");
  }

  find(name: string): Schedule | undefined {
    return this.#schedules("WHERE name = ?", name)[0];
  }

  /** In the order of their creation, behind `after`. */
  list(after: number, limit: number): Schedule[] {
    return this.#schedules("WHERE id > ? ORDER BY id LIMIT ?", after, limit);
  }

  add(schedule: Omit<Schedule, "id" | "status">): void {
    const { name, tool, parameters, timing, created, next = null } = schedule;
    this.#sql.exec(
      "INSERT INTO schedule (name, tool, parameters, timing, status, created, next) VALUES (?, ?, ?, ?, 'active', ?, ?)",
      ...[name, tool, JSON.stringify(parameters), JSON.stringify(timing), created, next],
    );
  }

  setStatus(id: number, status: "active" | "paused", next: number | undefined): void {
    this.#sql.exec("UPDATE schedule SET status = ?, next = ? WHERE id = ?", status, next ?? null, id);
  }

  /** It never runs again. Of those that ended, the newest `keep` stay, and those that still run. */
  end(id: number, status: "done" | "cancelled", now: number, keep: number): void {
    this.#sql.exec("UPDATE schedule SET status = ?, next = NULL, ended = ? WHERE id = ?", status, now, id);
    const superfluous = this.#sql.exec<{ id: number }>(
      `SELECT id FROM schedule WHERE ended IS NOT NULL AND id NOT IN (SELECT schedule FROM run WHERE status = 'running')
        ORDER BY ended DESC, id DESC LIMIT -1 OFFSET ?`,
      keep,
    );
    for (const row of superfluous.toArray()) this.remove(row.id);
  }

  remove(id: number): void {
    this.#sql.exec("DELETE FROM schedule WHERE id = ?", id);
    this.#sql.exec("DELETE FROM run WHERE schedule = ?", id);
  }

  /** Due schedules, those that wait longest first. */
  due(now: number): Schedule[] {
    return this.#schedules("WHERE status = 'active' AND next <= ? ORDER BY next, id", now);
  }

  /** When the next schedule is due. */
  nextDue(): number | undefined {
    const row = this.#sql.exec<{ next: number | null }>("SELECT min(next) AS next FROM schedule WHERE status = 'active'");
    return row.one().next ?? undefined;
  }

  /** Records a run that begins; of older ones, `keep` less one stay. */
  begin(schedule: Schedule, trigger: Trigger, due: number, started: number, keep: number): number {
    const { id } = this.#sql
      .exec<{ id: number }>(
        `INSERT INTO run (schedule, "trigger", due, started, status) VALUES (?, ?, ?, ?, 'running') RETURNING id`,
        ...[schedule.id, trigger, due, started],
      )
      .one();
    this.#sql.exec(
      "DELETE FROM run WHERE schedule = ?1 AND id <= (SELECT id FROM run WHERE schedule = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
      schedule.id,
      keep,
    );
    return id;
  }

  /** A schedule became due while its last run still goes on. */
  passOver(schedule: Schedule): void {
    this.#sql.exec("UPDATE run SET passed_over = passed_over + 1 WHERE schedule = ? AND status = 'running'", schedule.id);
  }

  finish(run: number, status: RunStatus, output: string, now: number): void {
    const short = output.length <= MOST_OUTPUT_CHARACTERS ? output : `${output.slice(0, MOST_OUTPUT_CHARACTERS)}…`;
    this.#sql.exec("UPDATE run SET status = ?, output = ?, ended = ? WHERE id = ?", status, short, now, run);
  }

  lastRun(schedule: number): Run | undefined {
    return this.runs(schedule, Number.MAX_SAFE_INTEGER, 1)[0];
  }

  /** The newest first, older than `before`. */
  runs(schedule: number, before: number, limit: number): Run[] {
    const query = `SELECT ${RUN_COLUMNS} FROM run WHERE schedule = ? AND id < ? ORDER BY id DESC LIMIT ?`;
    return this.#sql.exec<Run & Record<string, SqlStorageValue>>(query, schedule, before, limit).toArray();
  }

  #schedules(where: string, ...values: SqlStorageValue[]): Schedule[] {
    const query = `SELECT id, name, tool, parameters, timing, status, created, next FROM schedule ${where}`;
    return this.#sql.exec<ScheduleRow>(query, ...values).toArray().map(fromRow);
  }

  #count(query: string): number {
    return this.#sql.exec<{ count: number }>(query).one().count;
  }
}

function fromRow({ parameters, timing, next, ...row }: ScheduleRow): Schedule {
  return { ...row, parameters: JSON.parse(parameters), timing: JSON.parse(timing), next: next ?? undefined };
}
