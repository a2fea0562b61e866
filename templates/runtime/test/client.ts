/** The least of an MCP client that tests need: one JSON-RPC request per call, in either era. */

export type Era = "2025-11-25" | "2026-07-28";

export interface Answer {
  status: number;
  contentType: string;
  /** The JSON-RPC messages of the answer: one for JSON, maybe more for an event stream. */
  messages: any[];
  /** The last message's result and error. */
  result?: any;
  error?: any;
}

const NAMED: Record<string, string> = { "tools/call": "name", "prompts/get": "name", "resources/read": "uri", "tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId" };

/** What the client of the newer era says it can do, unless a request says otherwise. */
const CAPABILITIES = { elicitation: { form: {} }, sampling: {}, roots: {} };

export async function request(
  url: string,
  era: Era,
  method: string,
  params: Record<string, unknown> = {},
): Promise<Answer> {
  return readAnswer(await fetch(`${url}/mcp`, requestInit(era, method, params)));
}

export function requestInit(era: Era, method: string, params: Record<string, unknown>): RequestInit {
  const modern = era === "2026-07-28";
  const meta = {
    "io.modelcontextprotocol/protocolVersion": era,
    "io.modelcontextprotocol/clientInfo": { name: "spec", version: "1.0.0" },
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
  };
  const named = NAMED[method];
  return {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": era,
      ...(modern && { "mcp-method": method }),
      ...(modern && named !== undefined && { "mcp-name": String(params[named]) }),
    },
    body: JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method,
      params: modern ? { ...params, _meta: { ...meta, ...(params["_meta"] as object) } } : params,
    }),
  };
}

export async function readAnswer(response: Response): Promise<Answer> {
  const contentType = response.headers.get("content-type") ?? "";
  const text = await response.text();
  const messages = contentType.startsWith("text/event-stream")
    ? text.split("\n").flatMap((line) => (line.startsWith("data: ") ? [JSON.parse(line.slice(6))] : []))
    : text === "" ? [] : [JSON.parse(text)];
  const { result, error } = messages.at(-1) ?? {};
  return { status: response.status, contentType, messages, result, error };
}

export const ERAS: Era[] = ["2025-11-25", "2026-07-28"];
