import { ProtocolError, ProtocolErrorCode } from "@modelcontextprotocol/server";
import { callBody, type Caller, type Host } from "./call.ts";
import type { CatalogTool } from "./catalog.ts";
import type { BodyContext } from "./context.ts";
import type { ToolOutcome } from "./extension.ts";
import { BodyFailure } from "./failure.ts";
import { errorResult, toToolResult } from "./result.ts";
import { withDefaults } from "./schema.ts";

/** Calls a tool. Whatever goes wrong with an existing tool is a result with `isError`, which the model reads. */
export async function callTool(host: Host, name: string, given: unknown, caller: Caller): Promise<ToolOutcome> {
  const tool = host.catalog.tools.get(name) ?? (await findDynamicTool(host, name));
  if (tool === undefined) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Tool ${name} not found`);

  const parameters = withDefaults(tool.definition.inputSchema, given ?? {}) as Record<string, unknown>;
  const problem = tool.checkInput(parameters);
  if (problem !== undefined) {
    return errorResult(`Input validation error: Invalid arguments for tool ${name}: ${problem}`);
  }
  const { template } = tool;
  if (template !== undefined) {
    return runTool(host, tool, caller, (context, inner) => template(parameters, { host, context, caller: inner }));
  }
  const call = () => runTool(host, tool, caller, (context) => tool.body.run(parameters, host.environment, context));
  const { around } = host.extension;
  return around === undefined ? call() : around({ host, name, parameters, caller }, call);
}

async function runTool(
  host: Host,
  tool: CatalogTool,
  caller: Caller,
  run: (context: BodyContext, caller: Caller) => unknown,
): Promise<ToolOutcome> {
  try {
    return await callBody(host, tool.body, caller, run, (returned, bounds) =>
      toToolResult(returned, tool.checkOutput, bounds),
    );
  } catch (error) {
    if (BodyFailure.is(error)) return errorResult(error.message);
    throw error;
  }
}

async function findDynamicTool(host: Host, name: string): Promise<CatalogTool | undefined> {
  const template = await host.extension.dynamicTools?.find(host, name);
  return template && host.catalog.dynamicTool(name, template);
}
