/** How JSON Schema reads JSON values. */

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export type TypeName = "string" | "number" | "integer" | "boolean" | "array" | "object" | "null";

const HAS_TYPE: Record<TypeName, (value: unknown) => boolean> = {
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number",
  integer: (value) => Number.isInteger(value),
  boolean: (value) => typeof value === "boolean",
  array: Array.isArray,
  object: isObject,
  null: (value) => value === null,
};

export function typeTest(name: TypeName): (value: unknown) => boolean {
  return HAS_TYPE[name];
}

/** Equal as JSON: the order of an object's members does not matter, and neither does how a number was written. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => equal(item, b[index]));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name]));
}

/** The place of the first item that an earlier one equals. In one pass: an array may be as long as a request. */
export function firstRepeated(items: readonly unknown[]): number | undefined {
  const seen = new Set<unknown>();
  for (const [index, item] of items.entries()) {
    // A list in place of a text keeps `["x"]` apart from the text that it is written as.
    const key = typeof item === "object" && item !== null ? `o${canonical(item)}` : typeof item === "string" ? `s${item}` : item;
    if (seen.has(key)) return index;
    seen.add(key);
  }
  return undefined;
}

/** JSON with the members of objects in order, as in RFC 8785, so that equal values are equal texts. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join()}}`;
}

/** Characters as people count them: code points, not the units of UTF-16. */
export function lengthOf(text: string): number {
  let length = text.length;
  for (let index = 0; index < text.length - 1; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0xd800 || unit > 0xdbff) continue;
    const next = text.charCodeAt(index + 1);
    if (next < 0xdc00 || next > 0xdfff) continue;
    length--;
    index++;
  }
  return length;
}

/** Tells multiples of a number as their decimals say: 0.3 is one of 0.1, although its double is not. */
export function multiplesOf(divisor: number): (value: number) => boolean {
  // Whole numbers have exact remainders, and so a fraction of a whole divisor is never 0.
  if (Number.isInteger(divisor)) return (value) => value % divisor === 0;
  const { digits, exponent } = decimalOf(divisor);
  const scale = 10 ** -exponent;
  return (value) => {
    const product = Math.round(value / divisor) * Number(digits);
    // With so few digits, decimals and doubles go to and fro without loss, and this division is exact.
    if (Math.abs(product) < 1e15 && scale <= 1e22) return product / scale === value;
    return isMultiple(decimalOf(value), { digits, exponent });
  };
}

/** A number as `digits × 10^exponent`. */
interface Decimal {
  digits: bigint;
  exponent: number;
}

/** Exact for the shortest text that stands for the number. */
function decimalOf(value: number): Decimal {
  const [mantissa = "", exponent = "0"] = value.toExponential().split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  return { digits: BigInt(whole + fraction), exponent: Number(exponent) - fraction.length };
}

function isMultiple(value: Decimal, divisor: Decimal): boolean {
  const shift = value.exponent - divisor.exponent;
  // Numerator and denominator of the quotient, whole.
  return shift >= 0
    ? (value.digits * 10n ** BigInt(shift)) % divisor.digits === 0n
    : value.digits % (divisor.digits * 10n ** BigInt(-shift)) === 0n;
}
