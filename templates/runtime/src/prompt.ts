import {
  ProtocolError,
  ProtocolErrorCode,
  type CompleteRequestParams,
  type CompleteResult,
  type GetPromptResult,
} from "@modelcontextprotocol/server";
import { callBody, type Caller, type Host } from "./call.ts";
import type { Catalog } from "./catalog.ts";
import type { PromptArgument } from "./definition.ts";
import { BodyFailure } from "./failure.ts";
import type { InputNeeded } from "./input.ts";
import { toPromptResult, userMessage } from "./result.ts";

export async function getPrompt(
  host: Host,
  name: string,
  given: Record<string, string>,
  caller: Caller,
): Promise<GetPromptResult | InputNeeded> {
  const prompt = host.catalog.prompts.get(name);
  if (prompt === undefined) throw invalid(`Prompt ${name} not found`);
  const { definition, body } = prompt;

  const missing = definition.arguments.filter((argument) => argument.required && !Object.hasOwn(given, argument.name));
  if (missing.length > 0) {
    throw invalid(`Prompt ${name} lacks the required ${missing.map((argument) => argument.name).join(", ")}`);
  }
  if (body === undefined) return userMessage(fillTemplate(definition.template ?? "", given), definition.description);

  try {
    return await callBody(
      host,
      body,
      caller,
      (context) => body.run({ ...given }, host.environment, context),
      (returned, bounds) => toPromptResult(returned, definition.description, bounds),
    );
  } catch (error) {
    // A prompt has no `isError`: only a JSON-RPC error says that it failed.
    if (BodyFailure.is(error)) throw new ProtocolError(ProtocolErrorCode.InternalError, error.message);
    throw error;
  }
}

/** One pass, with a function as the replacement: `{{x}}` and `$&` within a value stay what they are. */
function fillTemplate(template: string, given: Record<string, string>): string {
  return template.replace(/\{\{ *([^{} ]+) *\}\}/g, (_, name: string) => (Object.hasOwn(given, name) ? given[name]! : ""));
}

/** MCP allows no more in one answer. */
const MOST_COMPLETIONS = 100;

export function completeArgument(catalog: Catalog, { ref, argument }: CompleteRequestParams): CompleteResult {
  const matching = completions(catalog, ref, argument.name).filter((value) => startsWith(value, argument.value));
  const values = matching.slice(0, MOST_COMPLETIONS);
  return { completion: { values, total: matching.length, hasMore: values.length < matching.length } };
}

function completions(catalog: Catalog, ref: CompleteRequestParams["ref"], name: string): string[] {
  if (ref.type === "ref/resource") {
    const known = catalog.resourceTemplates.find(({ definition }) => definition.uriTemplate === ref.uri);
    if (known === undefined) throw invalid(`Resource template ${ref.uri} not found`);
    const { completion = {} } = known.definition;
    return Object.hasOwn(completion, name) ? completion[name]! : [];
  }
  const prompt = catalog.prompts.get(ref.name);
  if (prompt === undefined) throw invalid(`Prompt ${ref.name} not found`);
  return prompt.definition.arguments.find((argument: PromptArgument) => argument.name === name)?.completion ?? [];
}

function startsWith(value: string, start: string): boolean {
  return value.toLowerCase().startsWith(start.toLowerCase());
}

function invalid(message: string): ProtocolError {
  return new ProtocolError(ProtocolErrorCode.InvalidParams, message);
}
