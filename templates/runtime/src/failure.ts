import { wellFormedJson } from "./json.ts";

/**
 * Why a call failed: its arguments are not what the tool takes, no slot was free, its time was up, whoever called
 * ended it, the body threw, or it returned what it may not return. A body ran in the last four cases only.
 */
export type FailureKind = "arguments" | "busy" | "timeout" | "cancelled" | "threw" | "output";

/** Something went wrong in a body, or with what it returned; `message` is for the client. */
export class BodyFailure extends Error {
  readonly #brand = true;

  constructor(
    message: string,
    readonly kind: FailureKind = "output",
  ) {
    super(message.toWellFormed());
  }

  /** Not `instanceof`, which a thrown proxy can answer with a throw of its own. */
  static is(thrown: unknown): thrown is BodyFailure {
    return typeof thrown === "object" && thrown !== null && #brand in thrown;
  }
}

/** Finds the user's own line in a stack. */
export interface BodySource {
  /** The module's name without folder and extension. */
  module: string;
  /** The line of the module on which the body's first line stands. */
  firstLine: number;
}

/** What a body threw, in words, with the body's own line where the stack knows it. Never throws itself. */
export function describeThrown(thrown: unknown, source: BodySource): string {
  try {
    const line = lineInBody(thrown, source);
    const description = shortened(describe(thrown));
    return line === undefined ? description : `${description} (line ${line} of the body)`;
  } catch {
    // A hostile getter, proxy or toString.
    return "the body threw a value that cannot be described";
  }
}

/** Enough for any message that somebody reads. */
const LONGEST_DESCRIPTION = 16_384;

function shortened(text: string): string {
  if (text.length <= LONGEST_DESCRIPTION) return text;
  return `${text.slice(0, LONGEST_DESCRIPTION)}… (${text.length} characters in all)`;
}

function describe(thrown: unknown): string {
  if (thrown instanceof Error) {
    const name = String(thrown.name);
    const message = String(thrown.message);
    if (message === "") return name;
    return name === "Error" ? message : `${name}: ${message}`;
  }
  if (typeof thrown === "string") return thrown;
  if (typeof thrown === "object" && thrown !== null) return `the body threw ${wellFormedJson(JSON.stringify(thrown))}`;
  return `the body threw ${String(thrown)}`;
}

function lineInBody(thrown: unknown, source: BodySource): number | undefined {
  if (!(thrown instanceof Error) || typeof thrown.stack !== "string") return undefined;
  const location = `bodies/${source.module}.js:`;
  const start = thrown.stack.indexOf(location);
  if (start === -1) return undefined;
  const line = Number.parseInt(thrown.stack.slice(start + location.length), 10) - source.firstLine + 1;
  return line >= 1 ? line : undefined;
}
