/**
 * Strict JSON: what `JSON.stringify` would silently turn into `null`, `{}` or
 * nothing is an error that names the place, because a model that reads an empty
 * object cannot guess that a `Map` was meant.
 */

export class NotJson extends Error {}

const ADVICE: [constructor: abstract new (...parameters: never[]) => unknown, advice: string][] = [
  [Response, "a Response: return `await response.json()` or `await response.text()`"],
  [Request, "a Request"],
  [Promise, "a Promise: `await` it"],
  [Map, "a Map: return `Object.fromEntries(map)`"],
  [Set, "a Set: return `[...set]`"],
  [Error, "an Error: throw it, or return its message"],
  [ArrayBuffer, "binary: return it as `data` of an image or audio block, or as `blob` of an embedded resource"],
  [Blob, "a Blob: return it as `data` of an image or audio block, or as `blob` of an embedded resource"],
  [ReadableStream, "a ReadableStream: read it first"],
];

/** The value as JSON text, which is well-formed. Throws `NotJson` for what JSON cannot express. */
export function toJson(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, strict);
  } catch (error) {
    if (error instanceof NotJson) throw error;
    // A cycle, or a `toJSON` or a getter that throws.
    throw new NotJson(`cannot be written as JSON: ${firstLine(error)}`);
  }
  if (text === undefined) throw new NotJson(`is ${typeof value}, which JSON cannot express`);
  return wellFormedJson(text);
}

/** Escapes in JSON text: whole pairs of surrogates, halves of one (which are captured), and all others. */
const ESCAPES = /\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(u[dD][89a-fA-F][\da-fA-F]{2})|[^])/g;

/**
 * JSON text without halves of surrogate pairs, such as cutting a text in the middle of an emoji leaves: strict parsers
 * refuse them. In the place of each stands U+FFFD.
 */
export function wellFormedJson(text: string): string {
  if (!text.includes("\\ud") && !text.includes("\\uD")) return text;
  return text.replace(ESCAPES, (escape: string, half?: string) => (half === undefined ? escape : "\ufffd"));
}

function strict(this: unknown, key: string, value: unknown): unknown {
  const problem = value === null ? lostDate(Reflect.get(this as object, key)) : inexpressible(value);
  if (problem === undefined) return value;
  throw new NotJson(key === "" ? `is ${problem}` : `has at ${JSON.stringify(key)} ${problem}`);
}

function inexpressible(value: unknown): string | undefined {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? undefined : `${value}, which JSON cannot express`;
    case "bigint":
      return "a BigInt, which JSON cannot express: return `String(value)` or `Number(value)`";
    case "function":
      return "a function, which JSON cannot express";
    case "symbol":
      return "a symbol, which JSON cannot express";
    case "object":
      if (value === null || Array.isArray(value)) return undefined;
      return ofClass(value);
    default:
      return undefined;
  }
}

/** A date that is none is `null` by its own `toJSON`. */
function lostDate(written: unknown): string | undefined {
  return written instanceof Date ? "an invalid Date" : undefined;
}

/** Objects that are written as what they stand for. */
const BOXES = [Number, String, Boolean];

function ofClass(value: object): string | undefined {
  const prototype = Reflect.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return undefined;
  if (ArrayBuffer.isView(value)) return ADVICE.find(([constructor]) => constructor === ArrayBuffer)?.[1];
  const advice = ADVICE.find(([constructor]) => value instanceof constructor)?.[1];
  if (advice !== undefined || Object.keys(value).length > 0 || BOXES.some((box) => value instanceof box)) return advice;
  // Headers, iterators, private fields: all that there is would be lost.
  const name = Object.prototype.toString.call(value).slice("[object ".length, -1);
  const what = Symbol.iterator in value ? "`[...value]` or `Object.fromEntries(value)`" : "what is in it as a plain object";
  return `an object of which JSON shows nothing${name === "Object" ? "" : ` (${name})`}: return ${what}`;
}

function firstLine(error: unknown): string {
  try {
    return String((error as Error).message).split("\n", 1)[0] ?? "";
  } catch {
    return "unknown reason";
  }
}

/** How many bytes a text has in UTF-8, without encoding the usual short one. */
export function exceedsBytes(text: string, limit: number): number | undefined {
  if (text.length * 3 <= limit) return undefined;
  const bytes = new TextEncoder().encode(text).byteLength;
  return bytes > limit ? bytes : undefined;
}

/** What a number that is too large for a double needs: a positive exponent, or hundreds of digits. */
const MAY_OVERFLOW = /\d[eE]\+?\d|\d{309}/;

/** Whether `JSON.parse` made infinity of a number in `text`: JSON has no such number, and no schema speaks of one. */
export function holdsInfinity(text: string, parsed: unknown): boolean {
  if (!MAY_OVERFLOW.test(text)) return false;
  const open: unknown[] = [parsed];
  while (open.length > 0) {
    const value = open.pop();
    if (value === Infinity || value === -Infinity) return true;
    if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) open.push(inner);
  }
  return false;
}
