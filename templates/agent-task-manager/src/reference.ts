import type { CallToolResult } from "@modelcontextprotocol/server";
import { valueOf } from "./runtime/result.ts";
import { isObject } from "./runtime/schema.ts";

/**
 * Arguments may take values from the results of other tasks: `{"$result": "<task id>", "pointer": "/x"}` stands for
 * what the pointer (RFC 6901) leads to in that task's result, or for all of it.
 */
export interface Reference {
  $result: string;
  pointer?: string;
}

/** A reference leads nowhere, or to more than a task may take. */
export class ReferenceFailure extends Error {}

export function isReference(value: unknown): value is Reference {
  if (!isObject(value) || typeof value["$result"] !== "string") return false;
  return Object.keys(value).every((key) => key === "$result" || (key === "pointer" && typeof value[key] === "string"));
}

/** The tasks that arguments refer to. */
export function referencesIn(value: unknown): Set<string> {
  return new Set(listReferences(value).map(({ $result }) => $result));
}

/** The arguments with every reference replaced by its value, which all together may have `maxBytes` of JSON. */
export function resolveReferences(
  value: unknown,
  resultOf: (task: string) => CallToolResult | undefined,
  maxBytes: number,
): unknown {
  const values = new Map<Reference, unknown>();
  let bytes = 0;
  // Task by task: each result is read once, and only one of them is held at a time.
  for (const [task, references] of Map.groupBy(listReferences(value), ({ $result }) => $result)) {
    const result = resultOf(task);
    if (result === undefined) throw new ReferenceFailure(`task ${task} has no result`);
    const whole = valueOf(result);
    for (const reference of references) {
      const text = JSON.stringify(follow(reference.pointer ?? "", whole, task));
      bytes += new TextEncoder().encode(text).byteLength;
      if (bytes > maxBytes) {
        throw new ReferenceFailure(`what the arguments refer to has more than ${maxBytes} bytes: refer to less by pointer`);
      }
      values.set(reference, JSON.parse(text));
    }
  }
  return replaceReferences(value, (reference) => values.get(reference));
}

function listReferences(value: unknown): Reference[] {
  const found: Reference[] = [];
  replaceReferences(value, (reference) => void found.push(reference));
  return found;
}

function replaceReferences(value: unknown, replace: (reference: Reference) => unknown): unknown {
  if (isReference(value)) return replace(value);
  if (Array.isArray(value)) return value.map((item) => replaceReferences(item, replace));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, replaceReferences(member, replace)]));
}

function follow(pointer: string, value: unknown, task: string): unknown {
  const nowhere = () => new ReferenceFailure(`the result of task ${task} has nothing at ${JSON.stringify(pointer)}`);
  if (pointer === "") return value;
  if (!pointer.startsWith("/")) throw new ReferenceFailure(`${JSON.stringify(pointer)} is no JSON pointer: it begins with "/"`);
  let reached = value;
  for (const part of pointer.slice(1).split("/")) {
    const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof reached !== "object" || reached === null || !Object.hasOwn(reached, name)) throw nowhere();
    reached = (reached as Record<string, unknown>)[name];
  }
  return reached;
}
