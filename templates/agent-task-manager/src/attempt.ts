import {
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  type CallToolResult,
  type ClientCapabilities,
} from "@modelcontextprotocol/server";
import type { Host } from "./runtime/call.ts";
import { BodyFailure } from "./runtime/failure.ts";
import { InputNeeded, Questions, type EmbeddedRequest } from "./runtime/input.ts";
import { exceedsBytes } from "./runtime/json.ts";
import { errorResult } from "./runtime/result.ts";
import { attemptTool } from "./runtime/tool.ts";
import { ReferenceFailure, resolveReferences } from "./reference.ts";
import type { Cause, Failure, JsonRpcError, Outcome, QueueOptions, TaskClient } from "./task.ts";

/** One attempt at a task. */
export interface Attempt {
  tool: string;
  arguments: Record<string, unknown>;
  client: TaskClient | undefined;
  signal: AbortSignal;
  /** The results of the tasks it depends on. */
  resultOf(task: string): CallToolResult | undefined;
}

export function optionsOf({ catalog }: Host): QueueOptions {
  return catalog.definition.options as unknown as QueueOptions;
}

/** Calls the task's tool, within the tool's own limits. Never rejects. */
export async function runAttempt(host: Host, attempt: Attempt): Promise<Outcome> {
  try {
    const { client, signal } = attempt;
    const { maxArgumentBytes, maxResultBytes } = optionsOf(host);
    const parameters = resolveReferences(attempt.arguments, attempt.resultOf, maxArgumentBytes + maxResultBytes);
    const questions = client && new Questions(client.answers, client.capabilities);
    const outcome = await attemptTool(host, attempt.tool, parameters, { request: undefined, signal, questions, depth: 0 });
    if (!(outcome instanceof InputNeeded)) return kept(outcome, maxResultBytes);
    return asked(outcome.requests, client?.capabilities ?? {});
  } catch (error) {
    if (BodyFailure.is(error)) return failure(error.kind, error.message);
    if (error instanceof ReferenceFailure) return failure("reference", error.message);
    const { code, message, data } = error instanceof ProtocolError ? error : INTERNAL;
    return protocolFailure({ code, message, ...(data !== undefined && { data }) });
  }
}

const INTERNAL: JsonRpcError = { code: ProtocolErrorCode.InternalError, message: "Internal error" };

/** A failure that the client of a call reads as the tool's own. */
export function failure(cause: Cause, message: string): Failure & { result: CallToolResult } {
  return { kind: "failed", error: { cause, message: shortened(message) }, result: errorResult(message) };
}

/** A failure that is an error of the protocol. */
export function protocolFailure(protocol: JsonRpcError, cause: Cause = "protocol"): Failure {
  return { kind: "failed", error: { cause, message: protocol.message, protocol } };
}

function kept(result: CallToolResult, maxResultBytes: number): Outcome {
  const bytes = exceedsBytes(JSON.stringify(result), maxResultBytes);
  if (bytes !== undefined) {
    return failure("output", `the result has ${bytes} bytes, and the queue keeps ${maxResultBytes} (option maxResultBytes)`);
  }
  if (!result.isError) return { kind: "completed", result };
  const [block] = result.content;
  const message = block?.type === "text" ? block.text : "the tool reported an error";
  return { kind: "failed", error: { cause: "reported", message: shortened(message) }, result };
}

/** Attempts and lists show messages; the result has all of it. */
const LONGEST_MESSAGE = 1000;

function shortened(message: string): string {
  return message.length <= LONGEST_MESSAGE ? message : `${message.slice(0, LONGEST_MESSAGE).toWellFormed()}…`;
}

/** A client is asked only for what it said it can give, as in a call that is no task. */
function asked(requests: Record<string, EmbeddedRequest>, capabilities: ClientCapabilities): Outcome {
  for (const [key, request] of Object.entries(requests)) {
    const missing = missingCapability(request, capabilities);
    if (missing === undefined) continue;
    const message = `Cannot request input '${key}' (${request.method}): the client does not declare the capability`;
    const { code, data } = new MissingRequiredClientCapabilityError({ requiredCapabilities: missing }, message);
    return protocolFailure({ code, message, data });
  }
  return { kind: "asked", requests };
}

function missingCapability(request: EmbeddedRequest, capabilities: ClientCapabilities): ClientCapabilities | undefined {
  switch (request.method) {
    case "elicitation/create":
      if (request.params.mode === "url") return capabilities.elicitation?.url ? undefined : { elicitation: { url: {} } };
      return capabilities.elicitation ? undefined : { elicitation: {} };
    case "sampling/createMessage":
      return capabilities.sampling ? undefined : { sampling: {} };
    case "roots/list":
      return capabilities.roots ? undefined : { roots: {} };
  }
}
