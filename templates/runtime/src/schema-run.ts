import type { Resource } from "./schema-document.ts";

/** Which members and items of one value its schemas have looked at: what `unevaluated…` leaves alone. */
export class Evaluated {
  readonly names = new Set<string>();
  readonly indexes = new Set<number>();
  everyName = false;
  /** Items before this one. */
  items = 0;

  add(other: Evaluated): void {
    for (const name of other.names) this.names.add(name);
    for (const index of other.indexes) this.indexes.add(index);
    this.everyName ||= other.everyName;
    this.items = Math.max(this.items, other.items);
  }
}

/** More would not help the reader. */
const MOST_PROBLEMS = 20;
/** Deeper within one another, alternatives are not explained: there may be more of them than anybody can read. */
const DEEPEST_EXPLANATION = 2;

/**
 * One check of one value. The first pass only finds out whether all is well; a second one,
 * with `problems`, says what is not.
 */
export class Run {
  readonly problems: string[] | undefined;
  /** Names and indexes that lead to the value at hand; kept only with `problems`. */
  readonly path: (string | number)[] = [];
  /** The resources on the way to the schema at hand; kept only where some `$dynamicRef` asks. */
  readonly scope: Resource[];
  readonly #depth: number;

  constructor(explain: boolean, scope: Resource[], depth = 0) {
    this.problems = explain ? [] : undefined;
    this.scope = scope;
    this.#depth = depth;
  }

  /** Notes what is wrong with the value at hand. */
  fail(message: () => string, at?: string | number): false {
    if (this.problems !== undefined && this.problems.length < MOST_PROBLEMS) {
      const path = at === undefined ? this.path : [...this.path, at];
      this.problems.push(`${pointerOf(path)}: ${message()}`);
    }
    return false;
  }

  /** Whether to look for further problems after one. */
  get goesOn(): boolean {
    return this.problems !== undefined && this.problems.length < MOST_PROBLEMS;
  }

  /** For a check whose problems are of no interest. */
  get quiet(): Run {
    return this.problems === undefined ? this : new Run(false, this.scope);
  }

  /** What a check of the value at hand finds wrong, apart from the other problems. */
  problemsOf(check: (apart: Run) => boolean): readonly string[] {
    if (this.#depth >= DEEPEST_EXPLANATION) return [];
    const run = new Run(true, this.scope, this.#depth + 1);
    run.path.push(...this.path);
    check(run);
    return run.problems ?? [];
  }
}

function pointerOf(path: readonly (string | number)[]): string {
  return `/${path.map((part) => String(part).replaceAll("~", "~0").replaceAll("/", "~1")).join("/")}`;
}

/** A text as a message shows it: quoted, and cut where it is long. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value);
  // Half of a character would make the answer no JSON for strict readers.
  return text.length > 80 ? `${text.slice(0, 80).replace(/[\ud800-\udbff]$/, "")}…` : text;
}
