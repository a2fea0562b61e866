/**
 * What a Worker logs leaves it for people and tools that may not know its secrets, and on Cloudflare nobody behind it
 * could take them out: only the Worker itself can read them.
 */

/** A text that may not be logged, and what stands in its place. */
interface Hidden {
  text: string;
  mark: string;
}

/** Longest first, so that a value within another does not spoil it. */
let hidden: Hidden[] = [];

/**
 * Has the values of secrets replaced by `[secret NAME]` in whatever is logged from now on. Of a value with several
 * lines each line counts by itself, since a log is read line by line.
 */
export function hideInLogs(secrets: Iterable<readonly [name: string, value: string]>): void {
  const marks = new Map(hidden.map(({ text, mark }) => [text, mark]));
  for (const [name, value] of secrets) {
    for (const line of value.split(/\r?\n/).filter((line) => line.trim() !== "")) {
      for (const text of spellings(line)) marks.set(text, `[secret ${name}]`);
    }
  }
  hidden = [...marks].map(([text, mark]) => ({ text, mark })).sort((a, b) => b.text.length - a.text.length);
}

/** A line as it is, within JSON, and within the text that the console makes of an object. */
function spellings(line: string): string[] {
  const inJson = JSON.stringify(line).slice(1, -1);
  return [line, inJson, inJson.replaceAll('\\"', '"')];
}

/** Lets nothing leave by the console without a look at it. */
export function guardLogs(): void {
  for (const [name, method] of Object.entries(console)) {
    if (typeof method === "function") aroundMethod(console, name, (call, written) => call(written.map(withoutSecrets)));
  }
}

type Around = (call: (given: unknown[]) => unknown, given: unknown[]) => unknown;

/** Puts `around` around a method, which keeps its other properties. */
export function aroundMethod(object: object, name: string, around: Around): void {
  const method = Reflect.get(object, name) as Function;
  const apply = (_: Function, self: unknown, given: unknown[]) =>
    around((changed) => Reflect.apply(method, self, changed), given);
  Reflect.set(object, name, new Proxy(method, { apply }));
}

/** What is logged instead of a value: the value itself, unless it shows a secret in one of its forms. */
function withoutSecrets(value: unknown): unknown {
  if (hidden.length === 0) return value;
  const words = attempt(() => inWords(value));
  // The console would fail at it as well.
  if (words === undefined) return redacted(plainly(value));
  const forms = [words, attempt(() => JSON.stringify(value)), attempt(() => String(value))];
  return forms.some((form) => form !== undefined && hidden.some(({ text }) => form.includes(text))) ? redacted(words) : value;
}

function redacted(text: string): string {
  return hidden.reduce((rest, { text: secret, mark }) => rest.replaceAll(secret, () => mark), text);
}

/** A value as the console writes it, but whole: what is not looked at could be logged all the same. */
function inWords(value: unknown, options?: object): string {
  if (value === null || (typeof value !== "object" && typeof value !== "function")) return String(value);
  const node = (globalThis as { process?: Node }).process;
  if (node === undefined) throw new Error("there is no node:util");
  // Loaded when it is needed: it would be a good part of a Worker's start.
  const { inspect } = node.getBuiltinModule("node:util");
  return inspect(value, { depth: null, maxArrayLength: null, maxStringLength: null, ...options });
}

interface Node {
  getBuiltinModule(name: "node:util"): { inspect(value: unknown, options: object): string };
}

/** A value with less to it: objects of the platform that the console cannot look into are locked like all others. */
function plainly(value: unknown): string {
  const text = attempt(() => String(value));
  if (text !== undefined && !text.startsWith("[object ")) return text;
  return attempt(() => inWords(value, { customInspect: false })) ?? "[a value that cannot be described]";
}

function attempt(form: () => string | undefined): string | undefined {
  try {
    return form();
  } catch {
    return undefined;
  }
}
