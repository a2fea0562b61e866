import { isInitializeRequest } from "@modelcontextprotocol/server";
import { jsonRpcError } from "./answer.ts";
import type { Environment } from "./environment.ts";
import { directoryOf, SESSION_HEADER, sessionNotFound, sessionsOf } from "./session-binding.ts";

/** Passes requests on to their sessions. */
export interface SessionRoute {
  /** Answers `GET` and `DELETE`, which only sessions have. */
  passOn(request: Request): Promise<Response>;
  /** Answers a message of a 2025 client, or `undefined` where it is to be served without a session. */
  serve(request: Request, message: unknown, text: string): Promise<Response | undefined>;
}

/** The message is kept as long as its session. */
const LONGEST_INITIALIZE = 64 * 1024;

/** `undefined` for a server that has no sessions. */
export function createSessionRoute(env: Environment): SessionRoute | undefined {
  const sessions = sessionsOf(env);
  if (sessions === undefined) return undefined;

  return {
    async passOn(request) {
      if (request.method !== "GET" && request.method !== "DELETE") {
        return jsonRpcError(405, -32000, "Method not allowed.", { Allow: "GET, POST, DELETE" });
      }
      const id = request.headers.get(SESSION_HEADER);
      if (id === null) return jsonRpcError(400, -32000, "Bad Request: Mcp-Session-Id header is required");
      return sessions.find(id)?.fetch(request) ?? sessionNotFound();
    },

    async serve(request, message, text) {
      const id = request.headers.get(SESSION_HEADER);
      const { url, headers } = request;
      // The body was read already, and within its bound.
      const again = () => new Request(url, { method: "POST", headers, body: text });
      if (id !== null) return sessions.find(id)?.fetch(again()) ?? sessionNotFound();
      // Without event streams nothing can be asked in the middle of a call.
      if (!isInitializeRequest(message) || !takesStreams(request)) return undefined;
      if (text.length > LONGEST_INITIALIZE) {
        return jsonRpcError(413, -32000, `Payload Too Large: initialize must not exceed ${LONGEST_INITIALIZE} characters`);
      }

      const opened = sessions.newId();
      if (!(await directoryOf(env)?.open(opened))) {
        return jsonRpcError(503, -32000, "The server has as many sessions as it can keep: try again later", { "Retry-After": "60" });
      }
      return sessions.find(opened)?.fetch(again());
    },
  };
}

function takesStreams(request: Request): boolean {
  const accept = request.headers.get("accept") ?? "";
  return accept.includes("application/json") && accept.includes("text/event-stream");
}
