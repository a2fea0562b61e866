import type { Environment } from "./runtime/environment.ts";
import { Connection } from "./connection.ts";
import type { UpstreamFailure } from "./failure.ts";
import { secretHeaders } from "./headers.ts";
import type { BreakerOptions, ReplicaOptions } from "./options.ts";

/**
 * - `closed`: it gets calls.
 * - `open`: it failed too often and gets none.
 * - `half-open`: its pause is over, and the next call begins with a check of whether it is back.
 */
export type BreakerState = "closed" | "open" | "half-open";

/** One address of an upstream, with what this isolate saw of it. Only plain values: workerd ties I/O to its request. */
export class Replica {
  readonly connection: Connection;
  /** Where it is, for people. The path is left out, since some servers are reached by a path that is a secret. */
  readonly host: string;
  calls = 0;
  failures = 0;
  lastFailure: { at: number; message: string } | undefined;
  #failuresInRow = 0;
  #pauses = 0;
  #openUntil = 0;
  #trialUntil = 0;
  #answeredAt = 0;
  #latency: { ms: number; at: number } | undefined;

  constructor(
    readonly index: number,
    { url, headers }: ReplicaOptions,
    env: Environment,
    client: { name: string; version: string },
    private readonly breaker: BreakerOptions,
  ) {
    this.host = new URL(url).host;
    this.connection = new Connection(url, () => secretHeaders(headers, env), client);
  }

  state(now: number): BreakerState {
    if (this.#failuresInRow < this.breaker.failures) return "closed";
    return now < Math.max(this.#openUntil, this.#trialUntil) ? "open" : "half-open";
  }

  /** When the next check may be made, for one that is open. */
  get nextCheckAt(): number {
    return Math.max(this.#openUntil, this.#trialUntil);
  }

  /** Whether it failed a moment ago: others are tried before it. */
  isSuspect(now: number): boolean {
    return this.#failuresInRow > 0 && this.lastFailure !== undefined && now < this.lastFailure.at + this.breaker.openMs;
  }

  /** Whether it answered within so many milliseconds. */
  answeredWithin(milliseconds: number, now: number): boolean {
    return this.#failuresInRow === 0 && now - this.#answeredAt < milliseconds;
  }

  /** How long its answers take; `undefined` where that is not known, or was found out too long ago. */
  latencyMs(now: number): number | undefined {
    return this.#latency !== undefined && now - this.#latency.at < LATENCY_LIFETIME ? this.#latency.ms : undefined;
  }

  /** One caller checks a replica that may be back; to all others it is open meanwhile. */
  startTrial(now: number, milliseconds: number): void {
    this.#trialUntil = now + milliseconds;
  }

  succeeded(now: number): void {
    this.#answeredAt = now;
    this.#failuresInRow = 0;
    this.#pauses = 0;
    this.#openUntil = 0;
    this.#trialUntil = 0;
  }

  /** What a call took; newer ones count more. */
  measured(milliseconds: number, now: number): void {
    const known = this.latencyMs(now);
    this.#latency = { ms: known === undefined ? milliseconds : known + (milliseconds - known) * NEWEST_SHARE, at: now };
  }

  failed(failure: UpstreamFailure, now: number): void {
    if (!failure.countsAgainstReplica) return;
    this.failures += 1;
    this.lastFailure = { at: now, message: failure.message };
    this.#failuresInRow += 1;
    // Calls that were under way when it opened fail too; they make the pause no longer.
    if (this.#failuresInRow < this.breaker.failures || now < this.#openUntil) return;
    this.#trialUntil = 0;
    this.#openUntil = now + Math.min(this.breaker.openMs * 2 ** this.#pauses, Math.max(LONGEST_PAUSE, this.breaker.openMs));
    this.#pauses += 1;
  }
}

/** The share of the newest measurement in the average. */
const NEWEST_SHARE = 0.3;
/** A replica that was slow is measured again after this. */
const LATENCY_LIFETIME = 30_000;
/** Each pause that ends in a failed check is twice as long as the one before, up to this. */
const LONGEST_PAUSE = 5 * 60_000;
