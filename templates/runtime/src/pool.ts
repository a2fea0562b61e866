/**
 * Calls `work` for each item, at most `limit` at the same time, in order. After the signal aborts nothing begins;
 * what runs is for `work` to end. Settles once nothing runs any more, with `undefined` for what never began; the
 * first `work` that rejects keeps the rest from beginning, and its reason is passed on.
 */
export async function mapPooled<Item, Result>(
  items: readonly Item[],
  limit: number,
  signal: AbortSignal,
  work: (item: Item, index: number) => Promise<Result>,
): Promise<(Result | undefined)[]> {
  const results = new Array<Result | undefined>(items.length).fill(undefined);
  const waiting = items.entries();
  let failed = false;

  async function worker(): Promise<void> {
    // One iterator for all workers: each item is drawn once.
    for (const [index, item] of waiting) {
      if (signal.aborted || failed) return;
      try {
        results[index] = await work(item, index);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  }

  const workers = Array.from({ length: Math.min(limit, items.length) }, worker);
  const ends = await Promise.allSettled(workers);
  for (const end of ends) if (end.status === "rejected") throw end.reason;
  return results;
}
