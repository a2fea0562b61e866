import type { CallEnd } from "./runtime/fan-out.ts";
import { isObject } from "./runtime/schema.ts";

/** One answer, and which calls gave it. */
export interface Candidate {
  value: unknown;
  count: number;
  indexes: number[];
}

/** What most of the calls that succeeded say, all candidates behind it; without a `value` where several lead. */
export function vote(ends: readonly CallEnd[]): { value?: unknown; tied: boolean; votes: Candidate[] } {
  const candidates = new Map<string, Candidate>();
  for (const end of ends) {
    if (!end.ok) continue;
    const key = canonicalJson(readJson(end.value));
    const candidate = candidates.get(key) ?? { value: end.value, count: 0, indexes: [] };
    candidate.count += 1;
    candidate.indexes.push(end.index);
    candidates.set(key, candidate);
  }
  // The sort is stable: among equals the candidate that was named first stays first.
  const votes = [...candidates.values()].sort((a, b) => b.count - a.count);
  const [first, second] = votes;
  const tied = first !== undefined && first.count === second?.count;
  return { ...(first !== undefined && !tied && { value: first.value }), tied, votes };
}

/** A text that is JSON, as what it says; a number that would lose digits stays the text it is. */
function readJson(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    const read: unknown = JSON.parse(value);
    return typeof read === "object" || String(read) === value ? read : value;
  } catch {
    return value;
  }
}

/** Equal for values that differ in the order of their properties only. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_name, member: unknown) =>
    isObject(member) ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1))) : member,
  );
}
