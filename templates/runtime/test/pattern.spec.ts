import assert from "node:assert/strict";
import { test } from "node:test";
import { createPattern } from "../src/schema-pattern.ts";

/** Numbers that look random and are the same each time. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
}

const ATOMS = ["a", "b", "é", "\u{1f600}", ".", "\\d", "\\W", "\\s", "[ab]", "[^a]", "[^]", "[]", "[\\]a-]", "\\p{L}", "\\P{Lu}", "\\x61", "\\u0062", "\\ud83d\\ude00", "\\u{e9}", "\\cJ", "\\0", "\\.", "\\/", "\\n"];
const PLACES = ["^", "$", "\\b", "\\B"];
const REPEATS = ["*", "+", "?", "*?", "+?", "{2}", "{0}", "{1,}", "{0,2}", "{1,3}?", "??"];
const LOOKS = ["(?=", "(?!", "(?<=", "(?<!"];
const LETTERS = ["a", "b", "A", "é", "\u{1f600}", "\ud83d", " ", "\n", "0", ".", "-", "\0", "_"];

function pattern(pick: (below: number) => number, depth: number): string {
  const options = Array.from({ length: pick(4) === 0 ? 2 : 1 }, () =>
    Array.from({ length: pick(4) }, () => {
      const kind = depth === 0 ? 0 : pick(8);
      const inner = () => pattern(pick, depth - 1);
      if (kind === 7) return LOOKS[pick(LOOKS.length)] + inner() + ")";
      if (kind === 6) return PLACES[pick(PLACES.length)];
      const atom = kind > 3 ? ["(", "(?:", `(?<n${pick(1e9)}>`][pick(3)] + inner() + ")" : ATOMS[pick(ATOMS.length)];
      return pick(2) === 0 ? atom : atom + REPEATS[pick(REPEATS.length)]!;
    }).join(""),
  );
  return options.join("|");
}

test("generated patterns match what JavaScript's own engine matches", () => {
  const pick = numbers(7);
  let compared = 0;
  let matches = 0;
  for (let n = 0; n < 4000; n++) {
    const source = pattern(pick, 3);
    let theirs: RegExp;
    try {
      theirs = new RegExp(source, "u");
    } catch {
      // Two groups of one name.
      continue;
    }
    const ours = createPattern(source);
    for (let m = 0; m < 10; m++) {
      const text = Array.from({ length: pick(8) }, () => LETTERS[pick(LETTERS.length)]).join("");
      const found = theirs.exec(text);
      // V8 also begins in the middle of a character, where the standard does not.
      if (found !== null && /[\ud800-\udbff]$/.test(text.slice(0, found.index)) && /^[\udc00-\udfff]/.test(text.slice(found.index))) continue;
      assert.equal(ours(text), found !== null, `/${source}/u on ${JSON.stringify(text)}`);
      compared++;
      if (ours(text)) matches++;
    }
  }
  assert.ok(compared > 30_000 && matches > compared / 5 && matches < compared * 0.95, `${matches} of ${compared}`);
});

test("patterns that people write match what they mean", () => {
  const cases: [string, string[], string[]][] = [
    ["^(?=.*[a-z])(?=.*\\d)(?!.*\\s).{8,}$", ["passw0rd", "0aaaaaaa"], ["password", "passw0r", "pass w0rd"]],
    ["^\\d{4}-\\d{2}-\\d{2}$", ["2026-11-29"], ["2026-1-29", "x2026-11-29"]],
    ["(?<!\\$)\\b\\d+\\b", ["7", "$7 8"], ["$7", "a7"]],
    ["^(?:[^@\\s]+)@(?:[a-z]+\\.)+[a-z]{2,}$", ["a@b.cc"], ["a@b", "a b@c.dd"]],
    ["", ["", "a"], []],
    ["|a", ["b"], []],
    ["^$", [""], ["a", "\n"]],
  ];
  for (const [source, matching, others] of cases) {
    const matches = createPattern(source);
    for (const text of matching) assert.ok(matches(text), `${source} on ${text}`);
    for (const text of others) assert.ok(!matches(text), `${source} on ${text}`);
  }
});

test("a pattern that another engine would try for ever is done with after one reading", () => {
  const long = "a".repeat(200_000);
  for (const source of ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(a*)*b", "a*a*a*a*b", "^(?:a?){30}a{30}$", "(?=(a+)+c)a", "\\s+$|a+b"]) {
    assert.equal(createPattern(source)(`${long}!`), false, source);
  }
  assert.equal(createPattern("^(a+)+$")(long), true);
});

test("what is too large or not supported is refused, and never begun", () => {
  for (const source of ["a{2048}", "((a{100}){100}){100}", "(a{0,99}){0,99}", "(?=a)".repeat(17), "(?:a{0,10}|[bc]+){86}", "(?:(?=a{1900})a){75}", "(a)\\1", "(?<n>a)\\k<n>", "(?i:a)", "(", "a**"]) {
    assert.throws(() => createPattern(source), source);
  }
  // The largest, as validation counts them.
  for (const source of ["a{2047}", "(?:a|b){682}", "(?:ab?){682}", "(?=a)".repeat(16), "(?:a{0,10}|[bc]+){85}", "(?:(?=a{1900})a){73}"]) {
    assert.equal(createPattern(source)(""), new RegExp(source, "u").test(""), source);
  }
  // Nothing, however often.
  assert.equal(createPattern("((?:){1000000000}){1000000000}$")("a"), true);
  assert.equal(createPattern("^(?:(?=a)a){3}$")("aaa"), true);
});
