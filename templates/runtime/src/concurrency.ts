/** Counts calls that run at the same time. Nothing waits here: a full server says so at once. */
export class Slots {
  #used = 0;

  constructor(readonly limit: number = Number.POSITIVE_INFINITY) {}

  /** Takes a slot; `false` when all are taken. */
  take(): boolean {
    if (this.#used >= this.limit) return false;
    this.#used += 1;
    return true;
  }

  release(): void {
    this.#used -= 1;
  }
}
