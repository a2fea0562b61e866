import {
  inputRequired,
  type CallToolResult,
  type CreateMessageRequestParams,
  type CreateMessageResult,
  type ElicitInputParams,
  type ElicitResult,
  type ListRootsResult,
  type LoggingLevel,
  type ServerContext,
} from "@modelcontextprotocol/server";
import type { Questions } from "./input.ts";
import { toJson } from "./json.ts";

/** The third parameter of every body: `ctx`. */
export interface BodyContext {
  /** Aborted when the time is up, or when workerd sees that the client is gone. Pass it to `fetch`. */
  readonly signal: AbortSignal;
  /** The JSON-RPC id of the request; a fresh id when the server itself makes the call. */
  readonly requestId: string | number;
  /** Tells the client how far the work is; does nothing when the client did not ask for it. */
  progress(done: number, total?: number, message?: string): Promise<void>;
  /** Sends a log message to the client. */
  log(level: LoggingLevel, data: unknown): Promise<void>;
  /** Calls another tool of this server, with the same checks and limits as a call from outside. */
  callTool(name: string, parameters?: Record<string, unknown>): Promise<CallToolResult>;
  /** Asks the person at the client. The body runs again from its start once the answer is there. */
  elicit(parameters: ElicitInputParams): Promise<ElicitResult>;
  /** Asks the client's model. The body runs again from its start once the answer is there. */
  sample(parameters: CreateMessageRequestParams): Promise<CreateMessageResult>;
  /** Asks the client for its roots. The body runs again from its start once the answer is there. */
  listRoots(): Promise<ListRootsResult>;
}

/** What a context is made from. */
export interface ContextParts {
  /** Absent when no client waits. */
  request: ServerContext | undefined;
  signal: AbortSignal;
  /** Absent on 2025 clients, which this stateless server cannot ask. */
  questions: Questions | undefined;
  callTool(name: string, parameters: unknown): Promise<CallToolResult>;
}

const LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

export function createContext({ request, signal, questions, callTool }: ContextParts): BodyContext {
  const mcpReq = request?.mcpReq;

  function ask(method: string): Questions {
    if (questions !== undefined) return questions;
    if (mcpReq === undefined) throw new Error(`ctx.${method} needs a client, and this call is the server's own`);
    throw new Error(`ctx.${method} needs a client that speaks MCP 2026-07-28 or newer`);
  }

  return Object.freeze<BodyContext>({
    signal,
    requestId: mcpReq?.id ?? crypto.randomUUID(),

    async progress(done, total, message) {
      if (!Number.isFinite(done)) throw new TypeError("ctx.progress needs a number");
      const progressToken = mcpReq?._meta?.progressToken;
      if (mcpReq === undefined || progressToken === undefined) return;
      const params = {
        progressToken,
        progress: done,
        ...(total !== undefined && { total }),
        ...(message !== undefined && { message: String(message) }),
      };
      await mcpReq.notify({ method: "notifications/progress", params });
    },

    async log(level, data) {
      if (!LEVELS.includes(level)) throw new TypeError(`ctx.log knows the levels ${LEVELS.join(", ")}`);
      const plain = JSON.parse(toJson(data));
      if (mcpReq === undefined) console.log(level, JSON.stringify(plain));
      else await mcpReq.log(level, plain);
    },

    callTool: (name, parameters = {}) => callTool(name, JSON.parse(toJson(parameters))),

    // The client's answers; their shape is the client's promise, as with any request to it.
    elicit: async (parameters) => (await ask("elicit").ask("elicit", inputRequired.elicit(parameters as never))) as ElicitResult,
    sample: async (parameters) =>
      (await ask("sample").ask("sample", inputRequired.createMessage(parameters))) as CreateMessageResult,
    listRoots: async () => (await ask("listRoots").ask("roots", inputRequired.listRoots())) as ListRootsResult,
  });
}
