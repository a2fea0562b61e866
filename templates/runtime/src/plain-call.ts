import {
  CLIENT_CAPABILITIES_META_KEY,
  CLIENT_INFO_META_KEY,
  PROTOCOL_VERSION_META_KEY,
  SERVER_INFO_META_KEY,
  type CallToolResult,
  type InputRequiredResult,
  type ServerContext,
} from "@modelcontextprotocol/server";
import type { CatalogTool } from "./catalog.ts";
import type { Host, RequestContext } from "./call.ts";
import { MODERN_VERSION } from "./legacy.ts";
import { isObject } from "./schema.ts";
import { callForClient, isInputRequired, type BegunCall } from "./server.ts";

/**
 * Most requests are calls of a tool with nothing about them that needs a protocol implementation: one request of the
 * plainest form, answered by one result of the plainest form. The SDK checks each of them against its schemas twice and
 * makes a server for each, which costs more than half of such a call. So these are answered here, in the words that the
 * SDK would use. Whatever is not of the plainest form is the SDK's: from the start where the request shows it, and in
 * the middle where the body does (it reports progress, logs, asks, or answers with more than text and data).
 */
export type PlainCalls = (request: Request, message: unknown, era: PlainEra, bySdk: ServeBySdk) => Promise<Response> | undefined;

type PlainEra = "modern" | "legacy";
type Outcome = CallToolResult | InputRequiredResult;

/** Serves the same request by the SDK, whose `tools/call` then answers with what began already. */
export type ServeBySdk = (begun: BegunCall) => Promise<Response>;

export function createPlainCalls(host: Host): PlainCalls {
  const { catalog, extension } = host;
  // What a template adds to a server may be about calls of tools too.
  if (extension.extendServer !== undefined) return () => undefined;
  const { name, version, description } = catalog.definition;
  const stamp = { resultType: "complete", _meta: { [SERVER_INFO_META_KEY]: { name, version, description } } };

  return (request, message, era, bySdk) => {
    const call = plainCallOf(message, era);
    const tool = call && catalog.tools.get(call.params.name);
    if (tool === undefined || !answersPlainly(tool)) return undefined;
    if (era === "modern" && (tool.takesHeaders || !hasPlainHeaders(request, call!))) return undefined;
    return serve(host, era, request, call!, bySdk, era === "modern" ? stamp : {});
  };
}

async function serve(host: Host, era: PlainEra, request: Request, call: PlainCall, bySdk: ServeBySdk, stamp: object): Promise<Response> {
  const takenOver = Promise.withResolvers<Response>();
  let context: Promise<ServerContext> | undefined;
  const cancellation = new AbortController();
  request.signal?.addEventListener("abort", () => cancellation.abort(), { once: true });

  /** For what only the SDK can do: it serves the request from now on, and the body never knows. */
  const takeOver = () =>
    (context ??= new Promise((resolve) => {
      const begun: BegunCall = (theirs) => {
        theirs.mcpReq.signal.addEventListener("abort", () => cancellation.abort(), { once: true });
        resolve(theirs);
        return outcome;
      };
      bySdk(begun).then(takenOver.resolve, takenOver.reject);
    }));

  const outcome: Promise<Outcome> = callForClient(
    host,
    { era, capabilities: undefined },
    requestContext(call, cancellation.signal, takeOver),
    call.params,
  );
  const end = outcome.then(
    (result) => (isPlain(result) ? answer(call.id, { ...result, ...stamp }) : undefined),
    () => undefined,
  );
  const response = await Promise.race([end, takenOver.promise]);
  if (response !== undefined) return response;
  await takeOver();
  return takenOver.promise;
}

function requestContext(call: PlainCall, signal: AbortSignal, takeOver: () => Promise<ServerContext>): RequestContext {
  return {
    mcpReq: {
      id: call.id,
      method: call.method,
      _meta: undefined,
      ...(call.params._meta !== undefined && { envelope: call.params._meta as never }),
      requestState: () => undefined,
      signal,
      notify: async (...notification) => (await takeOver()).mcpReq.notify(...notification),
      log: async (...entry) => (await takeOver()).mcpReq.log(...entry),
    },
  };
}

function answer(id: PlainCall["id"], result: object): Response {
  return Response.json({ jsonrpc: "2.0", id, result }, { headers: { "Content-Type": "application/json" } });
}

interface PlainCall {
  id: string | number;
  method: string;
  params: { name: string; arguments?: Record<string, unknown>; _meta?: Record<string, unknown> };
}

/** A request of `tools/call` in which a schema would find nothing to refuse, to fill in or to leave out. */
function plainCallOf(message: unknown, era: PlainEra): PlainCall | undefined {
  if (!isObject(message) || !hasOnly(message, ["jsonrpc", "id", "method", "params"])) return undefined;
  const { jsonrpc, id, method, params } = message;
  if (jsonrpc !== "2.0" || method !== "tools/call" || !isObject(params)) return undefined;
  if (typeof id !== "string" && !Number.isSafeInteger(id)) return undefined;
  if (!hasOnly(params, ["name", "arguments", "_meta"]) || typeof params["name"] !== "string") return undefined;
  const { arguments: given, _meta: meta } = params;
  if (given !== undefined && (!isObject(given) || Object.hasOwn(given, "__proto__"))) return undefined;
  if (era === "modern" ? !isPlainEnvelope(meta) : meta !== undefined) return undefined;
  return message as unknown as PlainCall;
}

function isPlainEnvelope(meta: unknown): boolean {
  if (!isObject(meta) || !hasOnly(meta, ENVELOPE) || meta[PROTOCOL_VERSION_META_KEY] !== MODERN_VERSION) return false;
  const { [CLIENT_INFO_META_KEY]: client, [CLIENT_CAPABILITIES_META_KEY]: capabilities } = meta;
  return (client === undefined || isPlainClient(client)) && isPlainCapabilities(capabilities);
}

const ENVELOPE = [PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY];

function isPlainClient(client: unknown): boolean {
  return (
    isObject(client) &&
    Object.hasOwn(client, "name") &&
    Object.hasOwn(client, "version") &&
    hasOnly(client, ["name", "version", "title", "description"]) &&
    Object.values(client).every((value) => typeof value === "string")
  );
}

function isPlainCapabilities(capabilities: unknown): boolean {
  if (!isObject(capabilities) || !hasOnly(capabilities, Object.keys(CAPABILITIES))) return false;
  return Object.entries(capabilities).every(
    ([name, parts]) =>
      isObject(parts) &&
      hasOnly(parts, CAPABILITIES[name]!) &&
      Object.values(parts).every((part) => isObject(part) && Object.keys(part).length === 0),
  );
}

/** What a client can be asked, and the parts of it that are objects without members. */
const CAPABILITIES: Record<string, string[]> = { elicitation: ["form", "url"], sampling: ["context", "tools"], roots: [] };

/** Names of tools hold nothing that would have to be encoded in a header. */
function hasPlainHeaders({ headers }: Request, { method, params }: PlainCall): boolean {
  return headers.get("mcp-method") === method && headers.get("mcp-name") === params.name;
}

/** Where the schema of results is not one of an object, older clients get a result within an object. */
function answersPlainly({ definition }: CatalogTool): boolean {
  return definition.outputSchema === undefined || definition.outputSchema["type"] === "object";
}

/** A result in which a schema would find nothing to refuse, to fill in or to leave out: texts, and maybe an object. */
function isPlain(result: Outcome): boolean {
  if (isInputRequired(result) || !hasOnly(result, ["content", "isError", "structuredContent"])) return false;
  const { content, isError, structuredContent } = result as CallToolResult;
  return (
    Array.isArray(content) &&
    content.every((block) => block.type === "text" && typeof block.text === "string" && hasOnly(block, ["type", "text"])) &&
    (isError === undefined || typeof isError === "boolean") &&
    (structuredContent === undefined || (isObject(structuredContent) && !Object.hasOwn(structuredContent, "__proto__")))
  );
}

function hasOnly(value: object, names: readonly string[]): boolean {
  return Object.keys(value).every((name) => names.includes(name));
}
