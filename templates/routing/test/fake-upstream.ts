import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakeTool {
  name: string;
  description?: string;
  inputSchema?: unknown;
  annotations?: object;
  [extra: string]: unknown;
}

/** A request that an upstream got. */
export interface Seen {
  method: string;
  params: any;
  id: number | undefined;
  headers: IncomingMessage["headers"];
}

export interface FakeUpstream {
  url: string;
  host: string;
  seen: Seen[];
  tools: FakeTool[];
  /** Answers instead of the usual way; `false` leaves it to that. */
  behave: ((seen: Seen, response: ServerResponse) => boolean | void) | undefined;
  /** Forgets the sessions that it gave. */
  forgetSessions(): void;
  calls(): number;
  stop(): Promise<void>;
}

export const RESULT = { content: [{ type: "text", text: "done" }] };

/** An MCP server of either era on a port of its own, without any library: it may misbehave as it likes. */
export async function startUpstream(era: "modern" | "legacy", tools: FakeTool[], port = 0): Promise<FakeUpstream> {
  let sessions = new Set<string>();

  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const { method, params, id } = JSON.parse(text);
    const seen: Seen = { method, params, id, headers: request.headers };
    fake.seen.push(seen);
    if (fake.behave !== undefined && fake.behave(seen, response) !== false) return;
    if (era === "modern") answerModern(seen, response);
    else answerLegacy(seen, response);
  });

  function answerModern(seen: Seen, response: ServerResponse): void {
    const { method, params, headers } = seen;
    const envelope = params?._meta?.["io.modelcontextprotocol/protocolVersion"];
    if (headers["mcp-protocol-version"] !== "2026-07-28" || envelope !== "2026-07-28" || headers["mcp-method"] !== method) {
      return error(response, seen, -32020, "header mismatch", 400);
    }
    if (method === "tools/call" && headers["mcp-name"] !== params.name) return error(response, seen, -32020, "header mismatch", 400);
    if (method === "server/discover") return result(response, seen, { supportedVersions: ["2026-07-28"], capabilities: {} });
    answer(seen, response);
  }

  function answerLegacy(seen: Seen, response: ServerResponse): void {
    const session = String(seen.headers["mcp-session-id"] ?? "");
    if (seen.method === "initialize") {
      const fresh = `session-${sessions.size}-${fake.seen.length}`;
      sessions.add(fresh);
      response.setHeader("mcp-session-id", fresh);
      return result(response, seen, { protocolVersion: "2025-11-25", capabilities: {}, serverInfo: { name: "fake", version: "1" } });
    }
    if (session === "") return error(response, seen, -32000, "Bad Request: Server not initialized", 400);
    if (!sessions.has(session)) return error(response, seen, -32001, "Session not found", 404);
    if (seen.id === undefined) return void response.writeHead(202).end();
    answer(seen, response);
  }

  function answer(seen: Seen, response: ServerResponse): void {
    const { method, params } = seen;
    if (method === "ping") return result(response, seen, {});
    if (method === "tools/list") {
      return result(response, seen, { tools: fake.tools.map((tool) => ({ inputSchema: { type: "object" }, ...tool })) });
    }
    if (method !== "tools/call") return error(response, seen, -32601, "Method not found");
    if (!fake.tools.some(({ name }) => name === params.name)) return error(response, seen, -32602, `Tool ${params.name} not found`);
    result(response, seen, RESULT);
  }

  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const fake: FakeUpstream = {
    url: `http://${host}/mcp`,
    host,
    seen: [],
    tools,
    behave: undefined,
    forgetSessions: () => (sessions = new Set()),
    calls: () => fake.seen.filter(({ method }) => method === "tools/call").length,
    stop: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
  return fake;
}

export function result(response: ServerResponse, { id }: Seen, value: object): void {
  reply(response, 200, { jsonrpc: "2.0", id, result: { resultType: "complete", ...value } });
}

export function error(response: ServerResponse, { id }: Seen, code: number, message: string, status = 200): void {
  reply(response, status, { jsonrpc: "2.0", id, error: { code, message } });
}

export function reply(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

/** Answers as an event stream; each event is a message. */
export function stream(response: ServerResponse, messages: object[]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(messages.map((message) => `event: message\r\ndata: ${JSON.stringify(message)}\r\n\r\n`).join(""));
}
