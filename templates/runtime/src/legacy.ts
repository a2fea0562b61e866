import {
  isJSONRPCNotification,
  isJSONRPCRequest,
  isJSONRPCResponse,
  PerRequestHTTPServerTransport,
  ProtocolErrorCode,
  SUPPORTED_PROTOCOL_VERSIONS,
  WebStandardStreamableHTTPServerTransport,
  type McpServer,
  type Transport,
} from "@modelcontextprotocol/server";
import { jsonRpcError } from "./answer.ts";

/** The code for a resource that does not exist, up to 2025-11-25. The SDK sends the newer -32602 to all. */
const RESOURCE_NOT_FOUND = -32002;

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
  if (isJSONRPCResponse(message)) return new Response(null, { status: 202 });
  if (!isJSONRPCRequest(message) && !isJSONRPCNotification(message)) {
    return jsonRpcError(400, -32600, "Invalid Request: not a JSON-RPC message");
  }

  const accept = request.headers.get("accept") ?? "*/*";
  const transport = new PerRequestHTTPServerTransport({
    classification: { era: "legacy" },
    responseMode: /text\/(event-stream|\*)|\*\/\*/.test(accept) ? "auto" : "json",
  });
  restoreErrorCodes(transport);
  await server.connect(transport);
  closeQuietly(transport);
  const response = await transport.handleMessage(message, { request });
  // A 2025 client takes 404 for a lost session: errors of JSON-RPC come with 200.
  return response.ok ? response : new Response(response.body, { status: 200, headers: response.headers });
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

/**
 * On closing, the SDK makes an error with a stack for whatever is still pending, which
 * costs a tenth of a call. Once the answer is sent nothing is.
 */
function closeQuietly(transport: Transport): void {
  const send = transport.send.bind(transport);
  transport.send = (message, options) => {
    if ("result" in message || "error" in message) transport.onclose = undefined;
    return send(message, options);
  };
}

/** Nothing else that is thrown here carries a URI. */
function isResourceNotFound({ code, data }: { code: number; data?: unknown }): boolean {
  return code === ProtocolErrorCode.InvalidParams && typeof (data as { uri?: unknown } | undefined)?.uri === "string";
}
