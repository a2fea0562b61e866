import { FORMATS } from "./schema-format.ts";
import { createPattern } from "./schema-pattern.ts";
import { quote } from "./schema-run.ts";
import { equal, firstRepeated, isObject, lengthOf, multiplesOf, typeTest, type TypeName } from "./schema-value.ts";

/** What one keyword says about a value, whatever stands around it. */
export interface Assertion {
  holds(value: unknown): boolean;
  message(value: unknown): string;
}

function ofNumber(holds: (value: number) => boolean, message: string): Assertion {
  return { holds: (value) => typeof value !== "number" || holds(value), message: () => message };
}

function ofText(holds: (value: string) => boolean, message: string): Assertion {
  return { holds: (value) => typeof value !== "string" || holds(value), message: () => message };
}

function ofList(holds: (value: unknown[]) => boolean, message: (value: unknown) => string): Assertion {
  return { holds: (value) => !Array.isArray(value) || holds(value), message };
}

function ofObject(holds: (names: string[]) => boolean, message: string): Assertion {
  return { holds: (value) => !isObject(value) || holds(Object.keys(value)), message: () => message };
}

function counted(count: number, what: string): string {
  return count === 1 ? `1 ${what}` : `${count} ${what === "property" ? "properties" : `${what}s`}`;
}

/** By keyword: the assertion that a keyword's value makes, or none. A definition's keywords are well-formed. */
export const ASSERTIONS: { readonly [keyword: string]: (expected: any) => Assertion | undefined } = {
  type: (expected: TypeName | TypeName[]) => {
    const names = Array.isArray(expected) ? expected : [expected];
    const tests = names.map(typeTest);
    const [only] = tests;
    return {
      holds: tests.length === 1 && only !== undefined ? only : (value) => tests.some((test) => test(value)),
      message: (value) => `must be ${names.join(" or ")}, not ${kindOf(value)}`,
    };
  },
  enum: (expected: unknown[]) => ({
    holds: (value) => expected.some((allowed) => equal(allowed, value)),
    message: () => `must be one of ${quote(expected).slice(1).replace(/\]$/, "")}`,
  }),
  const: (expected: unknown) => ({
    holds: (value) => equal(expected, value),
    message: () => `must be ${quote(expected)}`,
  }),
  multipleOf: (expected: number) => ofNumber(multiplesOf(expected), `must be a multiple of ${expected}`),
  minimum: (expected: number) => ofNumber((value) => value >= expected, `must be at least ${expected}`),
  maximum: (expected: number) => ofNumber((value) => value <= expected, `must be at most ${expected}`),
  exclusiveMinimum: (expected: number) => ofNumber((value) => value > expected, `must be greater than ${expected}`),
  exclusiveMaximum: (expected: number) => ofNumber((value) => value < expected, `must be less than ${expected}`),
  // A character has one or two units, so most lengths need no counting.
  minLength: (expected: number) =>
    ofText(
      (value) => value.length >= 2 * expected || (value.length >= expected && lengthOf(value) >= expected),
      `must have at least ${counted(expected, "character")}`,
    ),
  maxLength: (expected: number) =>
    ofText(
      (value) => value.length <= expected || (value.length <= 2 * expected && lengthOf(value) <= expected),
      `must have at most ${counted(expected, "character")}`,
    ),
  pattern: (expected: string) => ofText(createPattern(expected), `must match the pattern ${quote(expected)}`),
  format: (expected: string) => {
    const holds = Object.hasOwn(FORMATS, expected) ? FORMATS[expected] : undefined;
    return holds && ofText(holds, `must be of the format ${quote(expected)}`);
  },
  minItems: (expected: number) =>
    ofList((value) => value.length >= expected, () => `must have at least ${counted(expected, "item")}`),
  maxItems: (expected: number) =>
    ofList((value) => value.length <= expected, () => `must have at most ${counted(expected, "item")}`),
  uniqueItems: (expected: boolean) =>
    expected
      ? ofList(
          (value) => firstRepeated(value) === undefined,
          (value) => `must have no item twice; the one at ${firstRepeated(value as unknown[])} is a repetition`,
        )
      : undefined,
  minProperties: (expected: number) =>
    ofObject((names) => names.length >= expected, `must have at least ${counted(expected, "property")}`),
  maxProperties: (expected: number) =>
    ofObject((names) => names.length <= expected, `must have at most ${counted(expected, "property")}`),
};

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}
