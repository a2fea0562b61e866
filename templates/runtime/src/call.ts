import {
  CLIENT_CAPABILITIES_META_KEY,
  type CallToolResult,
  type ClientCapabilities,
  type InputRequiredResult,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { runBody, type BoundBody } from "./body.ts";
import type { Catalog } from "./catalog.ts";
import { createContext, type BodyContext } from "./context.ts";
import type { Environment } from "./environment.ts";
import type { Extension } from "./extension.ts";
import { answersOf, callDigest, InputNeeded, Questions, toInputRequired, type StateCodec } from "./input.ts";
import type { ResultBounds } from "./result.ts";
import { directoryOf } from "./session-binding.ts";
import { callTool } from "./tool.ts";

/**
 * How a client is served: by the 2026 revision, by the 2025 ones without a session, which leaves no way to ask the
 * client anything, or by those within a session.
 */
export type Era = "modern" | "legacy" | "session";

/** A catalog together with what it is bound to. */
export interface Host {
  catalog: Catalog;
  /** What bodies see as `env`. */
  environment: Environment;
  /** Everything the Worker is bound to, for the template's own code. */
  bindings: Environment;
  extension: Extension;
  stateCodec: StateCodec;
}

/** What is wanted of the request that a body serves: a part of what the SDK gives its handlers. */
export interface RequestContext {
  mcpReq: Pick<
    ServerContext["mcpReq"],
    "id" | "method" | "_meta" | "envelope" | "inputResponses" | "requestState" | "signal" | "notify" | "log"
  >;
}

/** On whose behalf a body runs: a client's request, another body within one, or the server itself. */
export interface Caller {
  /** Absent when no client waits: an alarm, a queue. */
  request: RequestContext | undefined;
  signal: AbortSignal;
  questions: Questions | undefined;
  depth: number;
  /**
   * One of several calls that run side by side within one. It cannot ask the client anything, since questions are
   * told apart by their order, and its progress is not that of the whole.
   */
  aside?: boolean;
}

/** Whether the server itself makes the call: nobody waits for it, and no other call either. */
export function isAlone({ request, depth }: Caller): boolean {
  return request === undefined && depth === 0;
}

/** Deep enough for tools built of tools, shallow enough to end a loop early. */
const DEEPEST_CALL = 8;

/** Runs a body for a caller: the context it sees, and the bounds of its result. */
export function callBody<Result>(
  host: Host,
  body: BoundBody,
  caller: Caller,
  call: (context: BodyContext, caller: Caller) => unknown,
  finish: (returned: unknown, bounds: ResultBounds) => Promise<Result>,
): Promise<Result | InputNeeded> {
  // Inner calls run on the slot of the call from outside: a server of one slot could make none otherwise.
  const slots = caller.depth === 0 ? body.slots : body.slots.slice(1);
  return runBody<Result>(
    { ...body, slots },
    {
      signal: caller.signal,
      inputNeeded: caller.questions?.needed,
      call: (signal) => {
        const inner = { ...caller, signal, depth: caller.depth + 1 };
        const context = createContext({
          request: caller.request,
          signal,
          questions: caller.questions,
          aside: caller.aside ?? false,
          callTool: (name, parameters) => callInner(host, name, parameters, inner),
          resourceUpdated: async (uri) => directoryOf(host.bindings)?.resourceUpdated(uri),
        });
        return call(context, inner);
      },
      finish: (returned, signal) => finish(returned, { label: body.label, responseBytes: body.responseBytes, signal }),
    },
  );
}

async function callInner(host: Host, name: string, parameters: unknown, caller: Caller): Promise<CallToolResult> {
  if (caller.depth > DEEPEST_CALL) throw new Error(`ctx.callTool is nested more than ${DEEPEST_CALL} deep`);
  const outcome = await callTool(host, name, parameters, caller);
  // The same questions end the outer run too; until then the inner call stays open.
  return outcome instanceof InputNeeded ? new Promise(() => {}) : outcome;
}

/** Calls a tool when no client waits. What the tool asks a client for is an error. */
export async function callToolAlone(
  host: Host,
  name: string,
  parameters: unknown,
  signal: AbortSignal,
): Promise<CallToolResult> {
  return callInner(host, name, parameters, { request: undefined, signal, questions: undefined, depth: 0 });
}

/** Who sent a request, and how it is served. */
export interface Client {
  era: Era;
  /** What it said about itself when its session began. */
  capabilities: ClientCapabilities | undefined;
}

/** Serves one request of a client with `work`, and turns open questions into an `input_required` result. */
export async function serveCall<Result>(
  host: Host,
  client: Client,
  request: RequestContext,
  what: { name: string; parameters: unknown },
  work: (caller: Caller) => Promise<Result | InputNeeded>,
): Promise<Result | InputRequiredResult> {
  const { signal, method } = request.mcpReq;
  const digest = () => callDigest(method, what.name, what.parameters);
  const answers = client.era === "legacy" ? undefined : await answersOf(request, digest);
  const questions = answers && new Questions(answers, capabilitiesOf(client, request));
  const outcome = await work({ request, signal, questions, depth: 0 });
  if (!(outcome instanceof InputNeeded)) return outcome;
  return toInputRequired(outcome, host.stateCodec, { call: await digest(), answers: questions?.given ?? {} });
}

/** A client of the 2026 revision says with each request what it can do, one of the 2025 revisions once. */
function capabilitiesOf({ era, capabilities }: Client, { mcpReq }: RequestContext): ClientCapabilities {
  const envelope: Record<string, unknown> | undefined = mcpReq.envelope;
  const declared = era === "modern" ? envelope?.[CLIENT_CAPABILITIES_META_KEY] : capabilities;
  return (declared as ClientCapabilities | undefined) ?? {};
}
