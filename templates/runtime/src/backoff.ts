/**
 * How long to wait after the n-th failure in a row, n from 1: twice as long each time, at most `longestMs`, with up to
 * a quarter more by chance, so that what failed together does not come back together.
 */
export function backoffMs(failures: number, firstMs: number, longestMs: number): number {
  // 2 ** 30 is beyond every limit already.
  const wait = Math.min(firstMs * 2 ** Math.min(failures - 1, 30), longestMs);
  return Math.round(wait * (1 + Math.random() / 4));
}
