import type { Tool } from "@modelcontextprotocol/server";
import { quoted, UpstreamFailure } from "./failure.ts";
import { isObject } from "./runtime/schema.ts";
import { canonical } from "./runtime/schema-value.ts";

/** A tool that is not served, and why. */
export interface HiddenTool {
  name: string;
  reason: string;
}

/** What an upstream offers: its tools as it lists them, checked. */
export interface ToolList {
  tools: ReadonlyMap<string, Tool>;
  hidden: readonly HiddenTool[];
}

/** Tools that one upstream may list. */
export const MOST_TOOLS = 512;
/** Pages that its list may come in. */
export const MOST_PAGES = 32;
/** A whole list. */
export const LIST_BYTES = 4 * 1024 * 1024;

const TOOL_BYTES = 64 * 1024;
const LONGEST_DESCRIPTION = 16_384;
const LONGEST_TITLE = 256;
const DEEPEST_SCHEMA = 48;

const NAME = /^[A-Za-z0-9_.-]{1,64}$/;

/** One page of `tools/list`. */
export interface Page {
  tools: unknown[];
  nextCursor: string | undefined;
}

export function readPage(result: unknown): Page {
  const tools = isObject(result) ? result["tools"] : undefined;
  if (!isObject(result) || !Array.isArray(tools)) throw new UpstreamFailure("invalid", "lists tools in what is no list");
  const next = result["nextCursor"];
  if (next !== undefined && next !== null && typeof next !== "string") {
    throw new UpstreamFailure("invalid", "lists tools with a cursor that is no text");
  }
  return { tools, nextCursor: next || undefined };
}

/** Each tool for itself: one that lies does not hide the others. */
export function readTools(listed: readonly unknown[]): ToolList {
  const tools = new Map<string, Tool>();
  const hidden: HiddenTool[] = [];
  for (const item of listed) {
    const name = isObject(item) && typeof item["name"] === "string" ? item["name"] : "";
    const problem = tools.has(name) ? "is listed twice" : isObject(item) ? problemOf(item) : "is no object";
    if (problem === undefined) tools.set(name, served(item as Tool));
    else hidden.push({ name: quoted(name).slice(0, 64), reason: problem });
  }
  return { tools, hidden };
}

/** Nothing else is passed on: `_meta`, icons and extensions are between an upstream and its own clients. */
function served({ name, title, description, inputSchema, outputSchema, annotations }: Tool): Tool {
  return {
    name,
    ...(title !== undefined && { title }),
    ...(description !== undefined && { description }),
    inputSchema,
    ...(outputSchema !== undefined && { outputSchema }),
    ...(annotations !== undefined && { annotations: knownAnnotations(annotations) }),
  };
}

const HINTS = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] as const;

function knownAnnotations(annotations: Record<string, unknown>): Tool["annotations"] {
  const hints = HINTS.filter((hint) => typeof annotations[hint] === "boolean").map((hint) => [hint, annotations[hint]]);
  const { title } = annotations;
  return { ...Object.fromEntries(hints), ...(typeof title === "string" && { title }) };
}

function problemOf(tool: Record<string, unknown>): string | undefined {
  const { name, title, description, inputSchema, outputSchema, annotations } = tool;
  if (typeof name !== "string" || !NAME.test(name)) return "its name is not 1 to 64 characters of A-Z, a-z, 0-9, '_', '.' and '-'";
  if (!isObject(inputSchema) || inputSchema["type"] !== "object") return "its inputSchema is no schema of an object";
  if (outputSchema !== undefined && !isObject(outputSchema)) return "its outputSchema is no schema";
  if (annotations !== undefined && !isObject(annotations)) return "its annotations are no object";
  const titles = [title, annotations?.["title"]].filter((text) => text !== undefined);
  if (!titles.every((text) => isText(text, LONGEST_TITLE))) return `its title is no text of at most ${LONGEST_TITLE} characters`;
  if (description !== undefined && !isText(description, LONGEST_DESCRIPTION)) {
    return `its description is no text of at most ${LONGEST_DESCRIPTION} characters`;
  }
  const shown = [titles, description, inputSchema, outputSchema];
  if (isDeeper(shown, DEEPEST_SCHEMA)) return `its schema nests deeper than ${DEEPEST_SCHEMA} levels`;
  if (JSON.stringify(shown).length > TOOL_BYTES) return `it is longer than ${TOOL_BYTES} characters of JSON`;
  const character = hidingCharacter(shown);
  if (character !== undefined) return `it holds U+${character}, which can hide text from people`;
  return undefined;
}

function isText(value: unknown, longest: number): boolean {
  return typeof value === "string" && value.length <= longest;
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((member) => isDeeper(member, levels - 1));
}

/** They shape the character before them, in emoji and some scripts; anywhere else they hide text. */
const JOINERS = String.raw`\u200c\u200d\ufe00-\ufe0f\u{e0100}-\u{e01ef}`;
const SHAPED = String.raw`[^\u0000-\u007f${JOINERS}]`;
/**
 * What a model reads and nobody sees: control characters, marks, overrides and isolates of direction, characters without
 * width, tags, and joiners that join nothing. Meta-MCP itself knows the same ones (`text.rs` of `metamcp-core`).
 */
const HIDES_TEXT = new RegExp(
  [
    String.raw`[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e007f}]`,
    String.raw`\r(?!\n)`,
    String.raw`(?<!${SHAPED}|\ufe0f)\u200d`,
    String.raw`(?<!${SHAPED}|[#*0-9])\ufe0f`,
    String.raw`(?<!${SHAPED})[\u200c\ufe00-\ufe0e\u{e0100}-\u{e01ef}]`,
  ].join("|"),
  "u",
);

/** The first such character of any text within, as four digits or more. */
function hidingCharacter(value: unknown): string | undefined {
  if (typeof value === "string") return HIDES_TEXT.exec(value)?.[0].codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0");
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, member] of Object.entries(value)) {
    const found = hidingCharacter(key) ?? hidingCharacter(member);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** What became different from one list to the next. */
export interface Change {
  at: string;
  added: string[];
  removed: string[];
  changed: string[];
}

/** `undefined` where nothing did. */
export function compareLists(before: ToolList, after: ToolList, now: number): Change | undefined {
  const added = [...after.tools.keys()].filter((name) => !before.tools.has(name));
  const removed = [...before.tools.keys()].filter((name) => !after.tools.has(name));
  const changed = [...after.tools].flatMap(([name, tool]) => {
    const old = before.tools.get(name);
    return old !== undefined && canonical(old) !== canonical(tool) ? [name] : [];
  });
  if (added.length + removed.length + changed.length === 0) return undefined;
  return { at: new Date(now).toISOString(), added, removed, changed };
}
