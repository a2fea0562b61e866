import { ProtocolError, ProtocolErrorCode, type CallToolResult } from "@modelcontextprotocol/server";
import { callBody, type Caller, type Host } from "./call.ts";
import { BodyFailure } from "./failure.ts";
import type { InputNeeded } from "./input.ts";
import { errorResult, toToolResult } from "./result.ts";
import { withDefaults } from "./schema.ts";

/** Calls a tool. Whatever goes wrong with an existing tool is a result with `isError`, which the model reads. */
export async function callTool(
  host: Host,
  name: string,
  given: unknown,
  caller: Caller,
): Promise<CallToolResult | InputNeeded> {
  const tool = host.catalog.tools.get(name);
  if (tool === undefined) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Tool ${name} not found`);

  const parameters = withDefaults(tool.definition.inputSchema, given ?? {});
  const problem = tool.checkInput(parameters);
  if (problem !== undefined) {
    return errorResult(`Input validation error: Invalid arguments for tool ${name}: ${problem}`);
  }

  try {
    return await callBody(
      host,
      tool.body,
      caller,
      (context) => tool.body.run(parameters, host.environment, context),
      (returned, bounds) => toToolResult(returned, tool.checkOutput, bounds),
    );
  } catch (error) {
    if (BodyFailure.is(error)) return errorResult(error.message);
    throw error;
  }
}
