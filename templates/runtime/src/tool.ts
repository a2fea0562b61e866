import { ProtocolError, ProtocolErrorCode, type CallToolResult } from "@modelcontextprotocol/server";
import { readArguments } from "./arguments.ts";
import { callBody, type Caller, type Host } from "./call.ts";
import type { CatalogTool } from "./catalog.ts";
import type { BodyContext } from "./context.ts";
import type { RunLimits, TemplateCall, ToolOutcome } from "./extension.ts";
import { BodyFailure } from "./failure.ts";
import { errorResult, toToolResult } from "./result.ts";

/** Calls a tool. Whatever goes wrong with an existing tool is a result with `isError`, which the model reads. */
export async function callTool(host: Host, name: string, given: unknown, caller: Caller): Promise<ToolOutcome> {
  try {
    return await attemptTool(host, name, given, caller);
  } catch (error) {
    if (BodyFailure.is(error)) return errorResult(error.message);
    throw error;
  }
}

/**
 * Calls a tool beside others within one call: all of them can be ended by a signal of their own. What goes wrong
 * with an existing tool is a `BodyFailure`; an unknown tool is a `ProtocolError`.
 */
export async function callAside(
  { host, caller }: Pick<TemplateCall, "host" | "caller">,
  name: string,
  given: unknown,
  signal: AbortSignal,
): Promise<CallToolResult> {
  const alone = { ...caller, questions: undefined, aside: true, signal: AbortSignal.any([caller.signal, signal]) };
  // Nothing is asked aside, so no input can be needed.
  return (await attemptTool(host, name, given, alone)) as CallToolResult;
}

/** Calls a tool; rejects with a `BodyFailure` where its body or what it returned is at fault. */
export async function attemptTool(host: Host, name: string, given: unknown, caller: Caller): Promise<ToolOutcome> {
  const tool = host.catalog.tools.get(name) ?? (await findDynamicTool(host, name));
  if (tool === undefined) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Tool ${name} not found`);

  const { parameters, problem } = readArguments(tool, given ?? {});
  if (problem !== undefined) {
    throw new BodyFailure(`Input validation error: Invalid arguments for tool ${name}: ${problem}`, "arguments");
  }
  const { template } = tool;
  if (template !== undefined) {
    const { limits } = tool.definition;
    return runTool(host, tool, caller, (context, inner) => template(parameters, { host, context, limits, caller: inner }));
  }
  const run = (limits?: RunLimits) =>
    runTool(host, tool, caller, (context) => tool.body.run(parameters, host.environment, context), limits);
  const { around } = host.extension;
  return around === undefined ? run() : around({ host, name, parameters, caller }, run);
}

function runTool(
  host: Host,
  tool: CatalogTool,
  caller: Caller,
  run: (context: BodyContext, caller: Caller) => unknown,
  limits?: RunLimits,
): Promise<ToolOutcome> {
  return callBody(host, { ...tool.body, ...limits }, caller, run, (returned, bounds) =>
    toToolResult(returned, tool.checkOutput, bounds),
  );
}

async function findDynamicTool(host: Host, name: string): Promise<CatalogTool | undefined> {
  const template = await host.extension.dynamicTools?.find(host, name);
  return template && host.catalog.dynamicTool(name, template);
}
