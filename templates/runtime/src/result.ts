import type { CallToolResult, GetPromptResult, ReadResourceResult } from "@modelcontextprotocol/server";
import { isBinary, toBase64, tooLarge } from "./binary.ts";
import { BodyFailure } from "./failure.ts";
import { exceedsBytes, NotJson, toJson } from "./json.ts";
import { protocolProblems } from "./protocol-problem.ts";
import { isObject, type Check } from "./schema.ts";

/** The bounds within which a result is made. */
export interface ResultBounds {
  label: string;
  responseBytes: number;
  signal: AbortSignal;
}

type ProtocolType = "CallToolResult" | "ReadResourceResult" | "GetPromptResult";

/** What a tool's body returned, as an MCP result. */
export async function toToolResult(
  returned: unknown,
  checkOutput: Check | undefined,
  bounds: ResultBounds,
): Promise<CallToolResult> {
  refuseNothing(returned);
  const result = isToolResult(returned)
    ? await protocolResult<CallToolResult>("CallToolResult", { content: [], ...returned }, bounds)
    : wrapValue(returned, checkOutput !== undefined, bounds);
  // Many clients show the content and nothing else.
  if (result.content.length === 0 && result.structuredContent !== undefined) {
    result.content = [{ type: "text", text: JSON.stringify(result.structuredContent) }];
  }

  if (checkOutput !== undefined && !result.isError) {
    if (result.structuredContent === undefined) {
      throw new BodyFailure(`${bounds.label} declares an output schema, but its result has no structuredContent`);
    }
    const mismatch = checkOutput(result.structuredContent);
    if (mismatch !== undefined) {
      throw new BodyFailure(`Output validation error: ${bounds.label} returned what its output schema does not allow: ${mismatch}`);
    }
  }
  return result;
}

/** What a resource's body returned, as contents. */
export async function toResourceResult(
  returned: unknown,
  uri: string,
  mimeType: string,
  bounds: ResultBounds,
): Promise<ReadResourceResult> {
  refuseNothing(returned);
  if (isBinary(returned)) {
    const blob = await toBase64(returned, bounds.responseBytes, bounds.signal);
    return { contents: [{ uri, mimeType, blob }] };
  }
  if (isObject(returned) && Array.isArray(returned["contents"])) {
    const contents = returned["contents"].map((item: unknown) => (isObject(item) ? { uri, mimeType, ...item } : item));
    return protocolResult("ReadResourceResult", { ...returned, contents }, bounds);
  }
  return { contents: [{ uri, mimeType, text: boundedText(returned, bounds) }] };
}

/** What a prompt's body returned, as messages. */
export async function toPromptResult(
  returned: unknown,
  description: string,
  bounds: ResultBounds,
): Promise<GetPromptResult> {
  refuseNothing(returned);
  if (typeof returned === "string") return userMessage(boundedText(returned, bounds), description);
  const result = Array.isArray(returned) ? { messages: returned } : returned;
  if (!isObject(result) || !Array.isArray(result["messages"])) {
    throw new BodyFailure(`${bounds.label} has to return a string, a list of messages or { messages: [...] }`);
  }
  return protocolResult("GetPromptResult", { description, ...result }, bounds);
}

export function userMessage(text: string, description: string): GetPromptResult {
  return { description, messages: [{ role: "user", content: { type: "text", text } }] };
}

export function errorResult(text: string): CallToolResult {
  return { content: [{ type: "text", text }], isError: true };
}

function refuseNothing(returned: unknown): void {
  if (returned === undefined) throw new BodyFailure("the body returned nothing: return a value");
}

const RESULT_MEMBERS = ["content", "isError", "_meta"];

/** A body that returns other JSON may well have a `content` too, so its items must look like MCP content. */
function isToolResult(returned: unknown): returned is Record<string, unknown> {
  if (!isObject(returned)) return false;
  const content = returned["content"];
  if (content === undefined) return Object.hasOwn(returned, "structuredContent");
  if (!Array.isArray(content)) return false;
  if (content.length > 0) return content.every((item) => isObject(item) && typeof item["type"] === "string");
  // Where there are none, it is what stands beside them: many an API answers `{ content: [], total: 0 }`.
  return Object.hasOwn(returned, "structuredContent") || Object.keys(returned).every((name) => RESULT_MEMBERS.includes(name));
}

function wrapValue(returned: unknown, structured: boolean, bounds: ResultBounds): CallToolResult {
  const text = boundedText(returned, bounds);
  const content: CallToolResult["content"] = [{ type: "text", text }];
  if (!structured) return { content };
  // Through JSON, so that the schema sees what the client will see.
  return { content, structuredContent: typeof returned === "string" ? text : JSON.parse(text) };
}

function boundedText(returned: unknown, bounds: ResultBounds): string {
  const text = typeof returned === "string" ? returned.toWellFormed() : writeJson(returned);
  const bytes = exceedsBytes(text, bounds.responseBytes);
  if (bytes !== undefined) throw tooLarge(bytes, bounds.responseBytes);
  return text;
}

function writeJson(value: unknown): string {
  try {
    return toJson(value);
  } catch (error) {
    if (error instanceof NotJson) throw new BodyFailure(`the returned value ${error.message}`);
    throw error;
  }
}

/** A result that a body wrote in the protocol's own words: bytes become base64, and the rest is held to the protocol. */
async function protocolResult<Result>(type: ProtocolType, value: object, bounds: ResultBounds): Promise<Result> {
  // What kind of result it is, is not the body's to say.
  const encoded = await encodeBinary({ ...value, resultType: undefined }, bounds, BLOCK_DEPTH);
  const plain: unknown = JSON.parse(boundedText(encoded, bounds));
  const problems = protocolProblems(type, plain);
  if (problems.length > 0) throw new BodyFailure(`${bounds.label} returned an invalid MCP result: ${problems.join("; ")}`);
  return plain as Result;
}

/** Deep enough for `messages[].content.resource.blob`. */
const BLOCK_DEPTH = 5;

/** Replaces binary values under the names `data` and `blob`; looks nowhere else, since the rest is the user's own JSON. */
async function encodeBinary(value: unknown, bounds: ResultBounds, depth: number): Promise<unknown> {
  if (depth === 0) return value;
  if (Array.isArray(value)) return Promise.all(value.map((item) => encodeBinary(item, bounds, depth - 1)));
  if (!isObject(value)) return value;
  const entries = Object.entries(value).map(async ([name, member]) => {
    const place = name === "data" || name === "blob";
    if (place && isBinary(member)) return [name, await toBase64(member, bounds.responseBytes, bounds.signal)];
    return [name, CONTAINERS.has(name) ? await encodeBinary(member, bounds, depth - 1) : member];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** The members of results that lead to content blocks. */
const CONTAINERS = new Set(["content", "contents", "messages", "resource"]);

/** What a tool returned, before it became an MCP result: its structured content, or its only text, read as JSON. */
export function valueOf({ structuredContent, content }: CallToolResult): unknown {
  if (structuredContent !== undefined) return structuredContent;
  const [block, ...others] = content;
  if (block?.type !== "text" || others.length > 0) return content;
  try {
    return JSON.parse(block.text);
  } catch {
    return block.text;
  }
}

/** A result as a text: what its blocks say, and what they are where that is no text. */
export function textOf({ content }: CallToolResult): string {
  return content.map((block) => (block.type === "text" ? block.text : `[${block.type}]`)).join("\n");
}
