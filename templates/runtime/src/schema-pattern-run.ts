import type { Part } from "./schema-pattern.ts";

/** Steps of a pattern with its repetitions written out. Validation of definitions knows the same bounds. */
const MOST_STEPS = 2048;
/** Each takes a byte for each character of a text. */
const MOST_LOOKS = 16;

type Step =
  | { kind: "take"; has(code: number): boolean; next: number }
  | { kind: "fork"; ways: number[] }
  | { kind: "if"; holds: Holds; next: number }
  | { kind: "done" };

/** Whether something is so at a place between two characters. */
type Holds = (text: Text, at: number) => boolean;

interface Text {
  codes: Uint32Array;
  /** For each look-around, the places at which it has a match. */
  looks: Uint8Array[];
}

/** The steps of a pattern, or of what one of its look-arounds looks for. */
interface Program {
  steps: Step[];
  first: number;
  /** Whether it reads a text from its end. */
  backward: boolean;
}

export function compilePattern(pattern: Part): (text: string) => boolean {
  const compiler = new Compiler();
  const main = compiler.compile(pattern, false);
  return (written) => {
    const text: Text = { codes: codesOf(written), looks: [] };
    // Those within others come before them.
    for (const look of compiler.looks) {
      const ends = new Uint8Array(text.codes.length + 1);
      run(look, text, (at) => void (ends[at] = 1));
      text.looks.push(ends);
    }
    return run(main, text, () => true);
  };
}

function codesOf(text: string): Uint32Array {
  const codes = new Uint32Array(text.length);
  let length = 0;
  for (const character of text) codes[length++] = character.codePointAt(0)!;
  return codes.subarray(0, length);
}

class Compiler {
  readonly looks: Program[] = [];
  readonly #known = new Map<Part, number>();
  #count = 0;

  compile(part: Part, backward: boolean): Program {
    const steps: Step[] = [];
    const first = this.#write({ steps, backward, first: 0 }, part, this.#add(steps, { kind: "done" }));
    return { steps, first, backward };
  }

  /** Writes the steps of a part that go on at `next`: where they begin. */
  #write(program: Program, part: Part, next: number): number {
    const { steps, backward } = program;
    switch (part.kind) {
      case "character":
        return this.#add(steps, { kind: "take", has: part.has, next });
      case "place":
        return this.#add(steps, { kind: "if", holds: PLACES[part.holds], next });
      case "look":
        return this.#add(steps, { kind: "if", holds: this.#look(part), next });
      case "either":
        return this.#add(steps, { kind: "fork", ways: part.options.map((option) => this.#write(program, option, next)) });
      case "sequence":
        return (backward ? part.parts : part.parts.toReversed()).reduce((at, inner) => this.#write(program, inner, at), next);
      case "repeat":
        return this.#repeat(program, part, next);
    }
  }

  #repeat(program: Program, { of, least, most }: Part & { kind: "repeat" }, next: number): number {
    let first = next;
    if (most === Infinity) {
      const ways = [next];
      first = this.#add(program.steps, { kind: "fork", ways });
      ways.push(this.#write(program, of, first));
    } else {
      for (let n = least; n < most; n++) {
        first = this.#add(program.steps, { kind: "fork", ways: [this.#write(program, of, first), next] });
      }
    }
    for (let n = 0; n < least; n++) {
      const written = this.#write(program, of, first);
      // However often nothing is repeated, it is nothing.
      if (written === first) break;
      first = written;
    }
    return first;
  }

  /** A look-around reads towards the place it is at, so that all places are known after one reading. */
  #look(part: Part & { kind: "look" }): Holds {
    let index = this.#known.get(part);
    if (index === undefined) {
      const program = this.compile(part.of, !part.behind);
      index = this.looks.push(program) - 1;
      if (this.looks.length > MOST_LOOKS) throw new Error(`a pattern may have ${MOST_LOOKS} look-arounds`);
      this.#known.set(part, index);
    }
    const look = index;
    return ({ looks }, at) => (looks[look]![at] === 1) !== part.negated;
  }

  #add(steps: Step[], step: Step): number {
    this.#count += 1;
    if (this.#count > MOST_STEPS) throw new Error(`a pattern may have ${MOST_STEPS} steps, its repetitions written out`);
    return steps.push(step) - 1;
  }
}

const PLACES: Record<(Part & { kind: "place" })["holds"], Holds> = {
  start: (_, at) => at === 0,
  end: ({ codes }, at) => at === codes.length,
  edge: ({ codes }, at) => isWord(codes[at - 1]) !== isWord(codes[at]),
  inside: ({ codes }, at) => isWord(codes[at - 1]) === isWord(codes[at]),
};

const WORD = Array.from({ length: 128 }, (_, code) => /\w/.test(String.fromCharCode(code)));

function isWord(code: number | undefined): boolean {
  return code !== undefined && code < 128 && WORD[code] === true;
}

/**
 * Goes through a text once, at each place with all steps that some match could have reached there, and calls `found`
 * at each place where one is complete. Whether `found` said that this is enough.
 */
function run({ steps, first, backward }: Program, text: Text, found: (at: number) => boolean | void): boolean {
  const { codes } = text;
  /** For each step, the round in which it was reached last: there is one round for each place. */
  const reached = new Uint32Array(steps.length);
  let open: number[] = [];
  for (let round = 1; round <= codes.length + 1; round++) {
    const at = backward ? codes.length + 1 - round : round - 1;
    const code = codes[backward ? at - 1 : at];
    const next: number[] = [];
    open.push(first);
    for (let index = open.pop(); index !== undefined; index = open.pop()) {
      if (reached[index] === round) continue;
      reached[index] = round;
      const step = steps[index]!;
      if (step.kind === "take") {
        if (code !== undefined && step.has(code)) next.push(step.next);
      } else if (step.kind === "fork") {
        for (const way of step.ways) open.push(way);
      } else if (step.kind === "if") {
        if (step.holds(text, at)) open.push(step.next);
      } else if (found(at) === true) {
        return true;
      }
    }
    open = next;
  }
  return false;
}
