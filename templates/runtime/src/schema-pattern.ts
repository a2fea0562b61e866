import { compilePattern } from "./schema-pattern-run.ts";

/**
 * A regular expression of JavaScript's `u` mode, in its parts. What matches a single character is left to the engine of
 * JavaScript; the rest is what lets that engine try the same thing again and again.
 */
export type Part =
  | { kind: "character"; has(code: number): boolean }
  | { kind: "sequence"; parts: Part[] }
  | { kind: "either"; options: Part[] }
  | { kind: "repeat"; of: Part; least: number; most: number }
  | { kind: "place"; holds: "start" | "end" | "edge" | "inside" }
  | { kind: "look"; of: Part; behind: boolean; negated: boolean };

/**
 * Whether a text has a match of the pattern, found in time that grows as the text does, whatever the pattern. Throws
 * for one that is not well-formed, refers back to a group, changes flags, or is too large: see `schema-pattern-run.ts`.
 */
export function createPattern(source: string): (text: string) => boolean {
  // Says what is wrong with it; from here on it is well-formed.
  new RegExp(source, "u");
  return compilePattern(new Reader(source).read());
}

class Reader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  /** Alternatives up to the end, or to the end of the group at hand. */
  read(): Part {
    const options = [this.#sequence()];
    while (this.#skip("|")) options.push(this.#sequence());
    return options.length === 1 ? options[0]! : { kind: "either", options };
  }

  #sequence(): Part {
    const parts: Part[] = [];
    while (this.#at < this.#source.length && !/[|)]/.test(this.#source[this.#at]!)) parts.push(this.#repeated(this.#part()));
    return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
  }

  #part(): Part {
    if (this.#skip("^")) return { kind: "place", holds: "start" };
    if (this.#skip("$")) return { kind: "place", holds: "end" };
    if (this.#skip("\\b")) return { kind: "place", holds: "edge" };
    if (this.#skip("\\B")) return { kind: "place", holds: "inside" };
    if (this.#skip("(")) return this.#group();
    const [text] = this.#take(/\\(?:u\{.*?\}|ud[89ab]..\\ud[c-f]..|u....|x..|c.|p\{.*?\}|.)|\[(?:\\.|[^\]\\])*\]|./isuy);
    if (/^\\[1-9k]/.test(text)) throw new Error("a pattern that refers back to a group is not supported");
    return { kind: "character", has: /^[\\[.]/.test(text) ? ofClass(text) : isCharacter(text) };
  }

  /** What follows an opening parenthesis. */
  #group(): Part {
    const [, look, negated] = this.#take(/\?(<)?([=!])|(?:\?:|\?<[^>]*>)?/uy).map((part) => part ?? "") as string[];
    if (this.#source[this.#at] === "?") throw new Error("a pattern that changes flags is not supported");
    const of = this.read();
    this.#skip(")");
    return negated === "" ? of : { kind: "look", of, behind: look === "<", negated: negated === "!" };
  }

  #repeated(of: Part): Part {
    const [written, least, comma, most] = this.#take(/(?:[*+?]|\{(\d+)(,)?(\d+)?\})?\??/y);
    switch (written[0]) {
      case "*":
        return { kind: "repeat", of, least: 0, most: Infinity };
      case "+":
        return { kind: "repeat", of, least: 1, most: Infinity };
      case "?":
        return { kind: "repeat", of, least: 0, most: 1 };
      case "{":
        return { kind: "repeat", of, least: Number(least), most: Number(most ?? (comma === undefined ? least : Infinity)) };
      default:
        return of;
    }
  }

  #skip(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #take(expected: RegExp): RegExpExecArray {
    expected.lastIndex = this.#at;
    const taken = expected.exec(this.#source)!;
    this.#at += taken[0].length;
    return taken;
  }
}

function isCharacter(text: string): (code: number) => boolean {
  const expected = text.codePointAt(0);
  return (code) => code === expected;
}

/** What an escape, a class or a dot stands for. */
function ofClass(text: string): (code: number) => boolean {
  const one = new RegExp(`^${text}$`, "u");
  const ascii = Array.from({ length: 128 }, (_, code) => one.test(String.fromCharCode(code)));
  return (code) => ascii[code] ?? one.test(String.fromCodePoint(code));
}
