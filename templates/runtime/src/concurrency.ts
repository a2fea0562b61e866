/** The right to run, until a moment at which whoever holds it has ended for certain. */
export interface Lease {
  readonly until: number;
}

/** A call that waits for a slot, and when it last looked for one. */
interface Place {
  looked: number;
}

/** Calls that may wait for one kind of slot; what comes on top is told at once that there is none. */
const LONGEST_LINE = 256;
/** How often the first in line looks for a slot; the others look less often. */
const LOOK_MS = 5;
const SLOWEST_LOOK_MS = 250;
/** Who has not looked for so long is gone. */
const GONE_MS = 5_000;

/**
 * Counts calls that run at the same time. Leases expire, because workerd drops a
 * request whose client is gone in the middle of a stream without running one more
 * line of it, not even a `finally`. For the same reason nobody in line is told when
 * it is its turn: each looks for itself, and who no longer looks loses its place.
 */
export class Slots {
  readonly #leases = new Set<Lease>();
  readonly #line = new Set<Place>();

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

  /** Takes a slot, waiting in line for at most `waitMs`; `undefined` when none came free or the signal aborts. */
  async takeInTurn(milliseconds: number, waitMs: number, signal: AbortSignal): Promise<Lease | undefined> {
    if (waitMs === 0 || this.#line.size === 0) {
      const lease = this.take(milliseconds);
      if (lease !== undefined || waitMs === 0) return lease;
    }
    const giveUp = Date.now() + waitMs;
    const place = this.#join();
    if (place === undefined) return undefined;
    try {
      for (let now = Date.now(); now < giveUp && !signal.aborted; now = Date.now()) {
        place.looked = now;
        const ahead = this.#ahead(place, now);
        const lease = ahead === 0 ? this.take(milliseconds) : undefined;
        if (lease !== undefined) return lease;
        const look = Math.min(LOOK_MS * (ahead + 1), SLOWEST_LOOK_MS, giveUp - now);
        await new Promise((resolve) => setTimeout(resolve, look));
      }
      return undefined;
    } finally {
      this.#line.delete(place);
    }
  }

  #join(): Place | undefined {
    const place = { looked: Date.now() };
    this.#ahead(place, place.looked);
    if (this.#line.size >= LONGEST_LINE) return undefined;
    this.#line.add(place);
    return place;
  }

  /** How many stand before a place; those that are gone are taken out of the line. */
  #ahead(place: Place, now: number): number {
    let ahead = 0;
    for (const other of this.#line) {
      if (other === place) return ahead;
      if (now - other.looked > GONE_MS) this.#line.delete(other);
      else ahead += 1;
    }
    return ahead;
  }

  release(lease: Lease): void {
    this.#leases.delete(lease);
  }

  #dropExpired(now: number): void {
    for (const lease of this.#leases) if (lease.until < now) this.#leases.delete(lease);
  }
}
