import type { End, Job, JobStatus, Progress, Step, StepKind, StepStatus, Subtask } from "./job.ts";

type JobRow = Omit<Job, "result"> & { result: string | null } & Record<string, SqlStorageValue>;
type StepRow = Omit<Step, "parameters" | "end"> & { parameters: string; end: string | null } & Record<string, SqlStorageValue>;

const JOB = "SELECT seq, id, status, created, deadline, ended, result, error FROM job";
/** A result may be large, and a list of them larger than any answer. */
const LISTED_JOB = JOB.replace("result", "NULL AS result");
const STEP = `SELECT seq, job, kind, position, tool, parameters, status, attempts, "end" FROM step`;

/** The jobs and their queue. */
export class JobStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS job (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL,
        created INTEGER NOT NULL, deadline INTEGER NOT NULL, ended INTEGER, result TEXT, error TEXT
      );
      CREATE INDEX IF NOT EXISTS job_open ON job (deadline) WHERE ended IS NULL;
      CREATE TABLE IF NOT EXISTS step (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, kind TEXT NOT NULL, position INTEGER NOT NULL,
        tool TEXT NOT NULL, parameters TEXT NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL, "end" TEXT
      );
      CREATE INDEX IF NOT EXISTS step_queue ON step (job, status, due);
      CREATE INDEX IF NOT EXISTS step_position ON step (job, kind, position);
      CREATE INDEX IF NOT EXISTS step_running ON step (job) WHERE status = 'running';
      CREATE INDEX IF NOT EXISTS step_due ON step (due) WHERE status = 'waiting';
    `);
  }

  addJob(id: string, status: JobStatus, created: number, deadline: number): Job {
    const values = [id, status, created, deadline];
    this.#sql.exec("INSERT INTO job (id, status, created, deadline) VALUES (?, ?, ?, ?)", ...values);
    return this.job(id)!;
  }

  job(id: string): Job | undefined {
    return this.#jobs("WHERE id = ?", id)[0];
  }

  jobOf(step: Step): Job | undefined {
    return this.#jobs("WHERE seq = ?", step.job)[0];
  }

  /** The newest first, made before the one of this number; without their results. */
  jobs(before: number, limit: number): Job[] {
    return this.#readJobs(`${LISTED_JOB} WHERE seq < ? ORDER BY seq DESC LIMIT ?`, before, limit);
  }

  countOpen(): number {
    return this.#count("SELECT count(*) AS count FROM job WHERE ended IS NULL");
  }

  overdue(now: number): Job[] {
    return this.#jobs("WHERE ended IS NULL AND deadline <= ?", now);
  }

  setStatus(job: Job, status: JobStatus): void {
    this.#sql.exec("UPDATE job SET status = ? WHERE seq = ?", status, job.seq);
  }

  /** Ends a job and what is left of it; of those that ended, the newest `keep` stay. */
  endJob(job: Job, status: JobStatus, end: { result?: unknown; error?: string }, now: number, keep: number): void {
    const result = end.result === undefined ? null : JSON.stringify(end.result);
    this.#sql.exec(
      "UPDATE job SET status = ?, result = ?, error = ?, ended = ? WHERE seq = ?",
      ...[status, result, end.error ?? null, now, job.seq],
    );
    for (const left of ["waiting", "running"]) {
      this.#sql.exec("UPDATE step SET status = 'cancelled' WHERE job = ? AND status = ?", job.seq, left);
    }
    const old = this.#jobs("WHERE ended IS NOT NULL ORDER BY ended DESC, seq DESC LIMIT -1 OFFSET ?", keep);
    for (const { seq } of old) {
      this.#sql.exec("DELETE FROM step WHERE job = ?", seq);
      this.#sql.exec("DELETE FROM job WHERE seq = ?", seq);
    }
  }

  addSteps(job: Job, kind: StepKind, subtasks: readonly Subtask[], due: number): void {
    subtasks.forEach(({ tool, arguments: parameters }, position) =>
      this.#sql.exec(
        "INSERT INTO step (job, kind, position, tool, parameters, status, due) VALUES (?, ?, ?, ?, ?, 'waiting', ?)",
        ...[job.seq, kind, position, tool, JSON.stringify(parameters), due],
      ),
    );
  }

  step(seq: number): Step | undefined {
    return this.#steps("WHERE seq = ?", seq)[0];
  }

  /** A job's steps of one kind, from this position on. */
  steps(job: Job, kind: StepKind, from: number, limit: number): Step[] {
    return this.#steps("WHERE job = ? AND kind = ? AND position >= ? ORDER BY position LIMIT ?", job.seq, kind, from, limit);
  }

  failures(job: Job, limit: number): Step[] {
    return this.#steps("WHERE job = ? AND status = 'failed' AND kind = 'work' ORDER BY position LIMIT ?", job.seq, limit);
  }

  running(): Step[] {
    return this.#steps("WHERE status = 'running'");
  }

  /** The next step to run: that of the job which has the fewest running, so that jobs share the places. */
  next(now: number): Step | undefined {
    const [job] = this.#sql
      .exec<{ seq: number }>(
        `SELECT seq FROM job WHERE ended IS NULL
           AND EXISTS (SELECT 1 FROM step WHERE step.job = job.seq AND step.status = 'waiting' AND step.due <= ?)
         ORDER BY (SELECT count(*) FROM step WHERE step.job = job.seq AND step.status = 'running'), seq LIMIT 1`,
        now,
      )
      .toArray();
    if (job === undefined) return undefined;
    return this.#steps("WHERE job = ? AND status = 'waiting' AND due <= ? ORDER BY due, seq LIMIT 1", job.seq, now)[0];
  }

  begin(step: Step): Step {
    this.#sql.exec("UPDATE step SET status = 'running', attempts = attempts + 1 WHERE seq = ?", step.seq);
    return { ...step, status: "running", attempts: step.attempts + 1 };
  }

  /** Has it run again; with `attempts` as many have counted. */
  putBack(step: Step, attempts: number, due: number, end: End): void {
    this.#sql.exec(
      `UPDATE step SET status = 'waiting', attempts = ?, due = ?, "end" = ? WHERE seq = ?`,
      ...[attempts, due, JSON.stringify(end), step.seq],
    );
  }

  settle(step: Step, end: End): void {
    const status: StepStatus = end.ok ? "succeeded" : "failed";
    this.#sql.exec(`UPDATE step SET status = ?, "end" = ? WHERE seq = ?`, status, JSON.stringify(end), step.seq);
  }

  hasOpenSteps(job: Job): boolean {
    const query = "SELECT EXISTS (SELECT 1 FROM step WHERE job = ? AND status IN ('waiting', 'running')) AS count";
    return this.#count(query, job.seq) > 0;
  }

  progress(job: Job): Progress {
    const progress: Progress = { waiting: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
    const counted = this.#sql.exec<{ status: StepStatus; count: number }>(
      "SELECT status, count(*) AS count FROM step WHERE job = ? AND kind = 'work' GROUP BY status",
      job.seq,
    );
    for (const { status, count } of counted) progress[status] = count;
    return progress;
  }

  /** Bytes of what the job's sub-tasks gave. */
  endBytes(job: Job): number {
    const bytes = `coalesce(sum(length(CAST("end" AS BLOB))), 0)`;
    return this.#count(`SELECT ${bytes} AS count FROM step WHERE job = ? AND kind = 'work'`, job.seq);
  }

  /** When the next step is due. */
  nextDue(): number | undefined {
    return this.#least("SELECT min(due) AS least FROM step WHERE status = 'waiting'");
  }

  nextDeadline(): number | undefined {
    return this.#least("SELECT min(deadline) AS least FROM job WHERE ended IS NULL");
  }

  #jobs(where: string, ...values: SqlStorageValue[]): Job[] {
    return this.#readJobs(`${JOB} ${where}`, ...values);
  }

  #readJobs(query: string, ...values: SqlStorageValue[]): Job[] {
    const rows = this.#sql.exec<JobRow>(query, ...values).toArray();
    return rows.map((row) => ({ ...row, result: parsed(row.result) }));
  }

  #steps(where: string, ...values: SqlStorageValue[]): Step[] {
    const rows = this.#sql.exec<StepRow>(`${STEP} ${where}`, ...values).toArray();
    return rows.map((row) => ({ ...row, parameters: JSON.parse(row.parameters), end: parsed(row.end) as End | undefined }));
  }

  #count(query: string, ...values: SqlStorageValue[]): number {
    return this.#sql.exec<{ count: number }>(query, ...values).one().count;
  }

  #least(query: string): number | undefined {
    return this.#sql.exec<{ least: number | null }>(query).one().least ?? undefined;
  }
}

function parsed(text: string | null): unknown {
  return text === null ? undefined : JSON.parse(text);
}
