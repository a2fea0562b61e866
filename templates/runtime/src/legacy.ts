import {
  isJSONRPCNotification,
  isJSONRPCRequest,
  isJSONRPCResponse,
  PerRequestHTTPServerTransport,
  ProtocolErrorCode,
  SUPPORTED_PROTOCOL_VERSIONS,
  WebStandardStreamableHTTPServerTransport,
  type JSONRPCRequest,
  type McpServer,
  type Transport,
} from "@modelcontextprotocol/server";
import { jsonRpcError } from "./answer.ts";
import { isObject } from "./schema.ts";

export const MODERN_VERSION = "2026-07-28";

/** The code for a resource that does not exist, up to 2025-11-25. The SDK sends the newer -32602 to all. */
const RESOURCE_NOT_FOUND = -32002;

/**
 * The era of a request where that is plain to see: it names a revision, and is of that revision's form. The SDK's
 * own look at a message, which decides in every other case, costs a tenth of a call.
 */
export function plainEra(request: Request, message: unknown): "legacy" | "modern" | undefined {
  const version = request.headers.get("mcp-protocol-version");
  if (version === MODERN_VERSION) return isObject(message) && Object.hasOwn(message, "method") ? "modern" : undefined;
  return version !== null && SUPPORTED_PROTOCOL_VERSIONS.includes(version) && isPlainRequest(message) ? "legacy" : undefined;
}

/**
 * Serves one POST of a client of the 2025 revisions, without a session. The answer is
 * JSON, and becomes an event stream only when a body reports progress or logs.
 */
export async function serveLegacy(server: McpServer, request: Request, message: unknown): Promise<Response> {
  const version = request.headers.get("mcp-protocol-version");
  if (version !== null && !SUPPORTED_PROTOCOL_VERSIONS.includes(version)) {
    const supported = SUPPORTED_PROTOCOL_VERSIONS.join(", ");
    return jsonRpcError(400, -32000, `Bad Request: Unsupported protocol version: ${version} (supported versions: ${supported})`);
  }
  if (Array.isArray(message)) return serveBatch(server, request, message);
  if (!isPlainRequest(message)) {
    if (isJSONRPCResponse(message)) return new Response(null, { status: 202 });
    if (!isJSONRPCRequest(message) && !isJSONRPCNotification(message)) {
      return jsonRpcError(400, -32600, "Invalid Request: not a JSON-RPC message");
    }
  }

  const accept = request.headers.get("accept") ?? "*/*";
  const transport = new PerRequestHTTPServerTransport({
    classification: { era: "legacy" },
    responseMode: /text\/(event-stream|\*)|\*\/\*/.test(accept) ? "auto" : "json",
  });
  restoreErrorCodes(transport);
  await server.connect(transport);
  const response = await transport.handleMessage(message, { request });
  // A 2025 client takes 404 for a lost session: errors of JSON-RPC come with 200.
  return response.ok ? response : new Response(response.body, { status: 200, headers: response.headers });
}

/** A request with nothing about it that a schema would have to look into. */
function isPlainRequest(message: unknown): message is JSONRPCRequest {
  if (!isObject(message)) return false;
  const { jsonrpc, id, method, params, ...rest } = message;
  return (
    jsonrpc === "2.0" &&
    (typeof id === "string" || Number.isSafeInteger(id)) &&
    typeof method === "string" &&
    (params === undefined || (isObject(params) && !Object.hasOwn(params, "_meta"))) &&
    Object.keys(rest).length === 0
  );
}

/** Only 2025-03-26 had batches. */
async function serveBatch(server: McpServer, request: Request, messages: unknown[]): Promise<Response> {
  const transport = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  restoreErrorCodes(transport);
  await server.connect(transport);
  return transport.handleRequest(request, { parsedBody: messages });
}

/** The SDK's 2025 codec renames the code on the way out, so it is put back where messages leave. */
export function restoreErrorCodes(transport: Transport): void {
  const send = transport.send.bind(transport);
  transport.send = (message, options) => {
    if (!("error" in message) || !isResourceNotFound(message.error)) return send(message, options);
    return send({ ...message, error: { ...message.error, code: RESOURCE_NOT_FOUND } }, options);
  };
}

/** Nothing else that is thrown here carries a URI. */
function isResourceNotFound({ code, data }: { code: number; data?: unknown }): boolean {
  return code === ProtocolErrorCode.InvalidParams && typeof (data as { uri?: unknown } | undefined)?.uri === "string";
}
