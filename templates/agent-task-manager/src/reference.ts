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

/** A reference leads nowhere. */
export class ReferenceFailure extends Error {}

export function isReference(value: unknown): value is Reference {
  if (!isObject(value) || typeof value["$result"] !== "string") return false;
  return Object.keys(value).every((key) => key === "$result" || (key === "pointer" && typeof value[key] === "string"));
}

/** The tasks that arguments refer to. */
export function referencesIn(value: unknown): Set<string> {
  const found = new Set<string>();
  replaceReferences(value, ({ $result }) => void found.add($result));
  return found;
}

/** The arguments with every reference replaced by its value. */
export function resolveReferences(value: unknown, resultOf: (task: string) => CallToolResult | undefined): unknown {
  return replaceReferences(value, ({ $result, pointer = "" }) => {
    const result = resultOf($result);
    if (result === undefined) throw new ReferenceFailure(`task ${$result} has no result`);
    return follow(pointer, valueOf(result), $result);
  });
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
