import { DurableObject } from "cloudflare:workers";
import type { Environment } from "./environment.ts";
import { sessionsOf } from "./session-binding.ts";

/** Sessions at once. Most clients never end theirs, so that a full server makes room by what was used longest ago. */
const MOST_SESSIONS = 1000;
/** A session that was used within this time is never made room with. */
const BUSY_MILLISECONDS = 10 * 60 * 1000;
const MOST_SUBSCRIPTIONS = 1000;

/** The Durable Object that knows every session of a server: how many there are, and who subscribed to what. */
export class McpSessionDirectory extends DurableObject<Environment> {
  readonly #sql: SqlStorage;

  constructor(state: DurableObjectState, env: Environment) {
    super(state, env);
    this.#sql = state.storage.sql;
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS session_used ON session (used);
      CREATE TABLE IF NOT EXISTS subscription (uri TEXT, session TEXT, PRIMARY KEY (uri, session)) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS subscription_session ON subscription (session);
    `);
  }

  /** Whether there is room for a new session, which then has it. */
  async open(id: string): Promise<boolean> {
    const { count } = this.#sql.exec<{ count: number }>("SELECT count(*) AS count FROM session").one();
    if (count >= MOST_SESSIONS && !(await this.#makeRoom())) return false;
    this.#sql.exec("INSERT INTO session (id, used) VALUES (?, ?)", id, Date.now());
    return true;
  }

  /** A session was used. */
  touch(id: string): void {
    this.#sql.exec("UPDATE session SET used = ? WHERE id = ?", Date.now(), id);
  }

  /** A session ended. */
  close(id: string): void {
    this.#sql.exec("DELETE FROM session WHERE id = ?", id);
    this.#sql.exec("DELETE FROM subscription WHERE session = ?", id);
  }

  /** Whether the session has the subscription now; it may have too many others. */
  subscribe(id: string, uri: string): boolean {
    const counted = this.#sql.exec<{ count: number }>("SELECT count(*) AS count FROM subscription WHERE session = ?", id);
    if (counted.one().count >= MOST_SUBSCRIPTIONS) return false;
    this.#sql.exec("INSERT OR IGNORE INTO subscription (uri, session) VALUES (?, ?)", uri, id);
    return true;
  }

  unsubscribe(id: string, uri: string): void {
    this.#sql.exec("DELETE FROM subscription WHERE uri = ? AND session = ?", uri, id);
  }

  /** Tells every session that subscribed to the resource. */
  async resourceUpdated(uri: string): Promise<void> {
    const sessions = sessionsOf(this.env);
    const subscribed = this.#sql.exec<{ session: string }>("SELECT session FROM subscription WHERE uri = ?", uri).toArray();
    await Promise.allSettled(subscribed.map(({ session }) => sessions?.find(session)?.resourceUpdated(uri)));
  }

  async #makeRoom(): Promise<boolean> {
    const limit = Date.now() - BUSY_MILLISECONDS;
    const [oldest] = this.#sql
      .exec<{ id: string }>("SELECT id FROM session WHERE used < ? ORDER BY used LIMIT 1", limit)
      .toArray();
    if (oldest === undefined) return false;
    this.close(oldest.id);
    await sessionsOf(this.env)?.find(oldest.id)?.end();
    return true;
  }
}
