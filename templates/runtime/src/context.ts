import {
  inputRequired,
  type CallToolResult,
  type ClientCapabilities,
  type CreateMessageRequestParams,
  type CreateMessageResult,
  type ElicitInputParams,
  type ElicitResult,
  type ListRootsResult,
  type LoggingLevel,
  type SpecTypeName,
  type SpecTypes,
} from "@modelcontextprotocol/server";
import type { RequestContext } from "./call.ts";
import type { Question, Questions } from "./input.ts";
import { NotJson, toJson } from "./json.ts";
import { protocolProblems } from "./protocol-problem.ts";

/** The third parameter of every body: `ctx`. */
export interface BodyContext {
  /** Aborted when the time is up, or when workerd sees that the client is gone. Pass it to `fetch`. */
  readonly signal: AbortSignal;
  /** The JSON-RPC id of the request; a fresh id when the server itself makes the call. */
  readonly requestId: string | number;
  /** Tells the client how far the work is; does nothing when the client did not ask for it. */
  progress(done: number, total?: number, message?: string): Promise<void>;
  /** Sends a log message to the client, and writes it to the server's log. */
  log(level: LoggingLevel, data: unknown): Promise<void>;
  /** Calls another tool of this server, with the same checks and limits as a call from outside. */
  callTool(name: string, parameters?: Record<string, unknown>): Promise<CallToolResult>;
  /** What the client said it can do; empty for one that cannot be asked anything. */
  readonly clientCapabilities: ClientCapabilities;
  /** Asks the person at the client. The body runs again from its start once the answer is there. */
  elicit(parameters: ElicitInputParams, options?: AskOptions): Promise<ElicitResult>;
  /** Asks the client's model. The body runs again from its start once the answer is there. */
  sample(parameters: CreateMessageRequestParams, options?: AskOptions): Promise<CreateMessageResult>;
  /** Asks the client for its roots. The body runs again from its start once the answer is there. */
  listRoots(options?: AskOptions): Promise<ListRootsResult>;
  /** Tells the clients that listen for a resource that it changed; does nothing on a server without sessions. */
  resourceUpdated(uri: string): Promise<void>;
}

export interface AskOptions {
  /** What the question is called in `inputRequests`, unique within the call; by default questions are numbered. */
  key?: string;
}

/** What a context is made from. */
export interface ContextParts {
  /** Absent when no client waits. */
  request: RequestContext | undefined;
  signal: AbortSignal;
  /** Absent on 2025 clients without a session, which nothing can be asked. */
  questions: Questions | undefined;
  /** Whether the call is one of several side by side. */
  aside: boolean;
  callTool(name: string, parameters: unknown): Promise<CallToolResult>;
  resourceUpdated(uri: string): Promise<void>;
}

/** The methods of the console that levels are written by. */
const METHODS: Readonly<Record<LoggingLevel, "debug" | "info" | "warn" | "error">> = {
  debug: "debug",
  info: "info",
  notice: "info",
  warning: "warn",
  error: "error",
  critical: "error",
  alert: "error",
  emergency: "error",
};

export function createContext(parts: ContextParts): BodyContext {
  const { request, signal, questions, aside, callTool, resourceUpdated } = parts;
  const mcpReq = request?.mcpReq;

  /** The client's answer; its shape is the client's promise, as with any request to it. */
  async function ask<Answer>(method: string, options: AskOptions, question: Omit<Question, "key">): Promise<Answer> {
    if (questions !== undefined) return (await questions.ask({ ...question, key: keyOf(options) })) as Answer;
    if (aside) throw new Error(`ctx.${method} cannot be used in one of several calls that run side by side`);
    if (mcpReq === undefined) throw new Error(`ctx.${method} needs a client, and this call is the server's own`);
    throw new Error(
      `ctx.${method} needs a client that speaks MCP 2026-07-28 or newer, or a session ("sessions": true in the server's definition)`,
    );
  }

  return Object.freeze<BodyContext>({
    signal,
    requestId: mcpReq?.id ?? crypto.randomUUID(),

    async progress(done, total, message) {
      // Null is what a computed value that is missing may be.
      if (!Number.isFinite(done) || !Number.isFinite(total ?? 0)) throw new TypeError("ctx.progress needs numbers");
      const progressToken = mcpReq?._meta?.progressToken;
      if (mcpReq === undefined || progressToken === undefined || aside) return;
      const params = {
        progressToken,
        progress: done,
        ...(total != null && { total }),
        ...(message != null && { message: String(message).toWellFormed() }),
      };
      await mcpReq.notify({ method: "notifications/progress", params });
    },

    async log(level, data) {
      if (!Object.hasOwn(METHODS, level)) throw new TypeError(`ctx.log knows the levels ${Object.keys(METHODS).join(", ")}`);
      const said = plain(data, "what ctx.log was given");
      console[METHODS[level]](level, typeof said === "string" ? said : JSON.stringify(said));
      await mcpReq?.log(level, said);
    },

    callTool: (name, parameters = {}) => callTool(name, plain(parameters, "what ctx.callTool was given")),

    get clientCapabilities() {
      return structuredClone(questions?.capabilities ?? {});
    },
    async elicit(parameters, options = {}) {
      const asked = checked("elicit", "ElicitRequestFormParams", parameters);
      return ask("elicit", options, { kind: "elicit", request: inputRequired.elicit(asked) });
    },
    async sample(parameters, options = {}) {
      const asked = checked("sample", "CreateMessageRequestParams", parameters);
      return ask("sample", options, { kind: "sampling", request: inputRequired.createMessage(asked) });
    },
    listRoots: async (options = {}) => ask("listRoots", options, { kind: "roots", request: inputRequired.listRoots() }),
    resourceUpdated: async (uri) => resourceUpdated(String(uri)),
  });
}

/** What the other side will read of a value. */
function plain<Value>(value: Value, what: string): Value {
  try {
    return JSON.parse(toJson(value));
  } catch (error) {
    throw error instanceof NotJson ? new TypeError(`${what} ${error.message}`) : error;
  }
}

/** A question as the protocol wants it: a client that cannot read it would blame the server. */
function checked<Name extends SpecTypeName>(method: string, type: Name, parameters: unknown): SpecTypes[Name] {
  const what = `what ctx.${method} was given`;
  const asked = plain(parameters, what);
  const problems = protocolProblems(type, asked);
  if (problems.length > 0) throw new TypeError(`${what} is no question: ${problems.join("; ")}`);
  return asked as SpecTypes[Name];
}

const LONGEST_KEY = 128;

function keyOf({ key }: AskOptions): string | undefined {
  if (key === undefined) return undefined;
  if (typeof key === "string" && key !== "" && key.length <= LONGEST_KEY) return key.toWellFormed();
  throw new TypeError(`the key of a question is a text of 1 to ${LONGEST_KEY} characters`);
}
