import { DurableObject } from "cloudflare:workers";
import { createMcpHandler, Server } from "@modelcontextprotocol/server";
import type { Environment } from "./environment.ts";
import { sessionsOf } from "./session-binding.ts";

/** Sessions at once. Most clients never end theirs, so that a full server makes room by what was used longest ago. */
const MOST_SESSIONS = 1000;
/** A session that was used within this time is never made room with. */
const BUSY_MILLISECONDS = 10 * 60 * 1000;
const MOST_SUBSCRIPTIONS = 1000;
/** Streams of `subscriptions/listen` at once. */
const MOST_STREAMS = 1000;

/**
 * The Durable Object that knows every session of a server, how many there are and who subscribed to what, and that
 * holds the streams of clients that listen without a session.
 */
export class McpSessionDirectory extends DurableObject<Environment> {
  readonly #sql: SqlStorage;
  /** Only what opens such a stream comes here, and of the server no more is asked than that it has them. */
  readonly #streams = createMcpHandler(
    () => new Server({ name: "directory", version: "1.0.0" }, { capabilities: { resources: { subscribe: true } } }),
    { legacy: "reject", maxSubscriptions: MOST_STREAMS },
  );

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

  /** Serves a request of `subscriptions/listen`. A stream ends with the process, and its client listens afresh. */
  override fetch(request: Request): Promise<Response> {
    return this.#streams.fetch(request);
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

  /** Tells everybody who listens for the resource. */
  async resourceUpdated(uri: string): Promise<void> {
    this.#streams.notify.resourceUpdated(uri);
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
