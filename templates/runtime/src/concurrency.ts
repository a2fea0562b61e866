/** The right to run, until a moment at which whoever holds it has ended for certain. */
export interface Lease {
  readonly until: number;
}

/**
 * Counts calls that run at the same time. Nothing waits here: a full server says so at
 * once. Leases expire, because workerd drops a request whose client is gone in the
 * middle of a stream without running one more line of it, not even a `finally`.
 */
export class Slots {
  readonly #leases = new Set<Lease>();

  constructor(readonly limit: number) {}

  /** Takes a slot for at most so long; `undefined` when all are taken. */
  take(milliseconds: number): Lease | undefined {
    const now = Date.now();
    if (this.#leases.size >= this.limit) this.#dropExpired(now);
    if (this.#leases.size >= this.limit) return undefined;
    const lease = { until: now + milliseconds };
    this.#leases.add(lease);
    return lease;
  }

  release(lease: Lease): void {
    this.#leases.delete(lease);
  }

  #dropExpired(now: number): void {
    for (const lease of this.#leases) if (lease.until < now) this.#leases.delete(lease);
  }
}
