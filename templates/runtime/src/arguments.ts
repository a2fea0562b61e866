import type { CatalogTool } from "./catalog.ts";
import { withDefaults } from "./schema.ts";

/** What a tool is called with, and what is wrong with it. */
export interface ReadArguments {
  /** The arguments with the defaults of the tool's schema. */
  parameters: Record<string, unknown>;
  problem: string | undefined;
}

/** Arguments as a call of the tool would take them, now or later. */
export function readArguments({ definition, checkInput }: CatalogTool, given: unknown): ReadArguments {
  const parameters = withDefaults(definition.inputSchema, given) as Record<string, unknown>;
  return { parameters, problem: checkInput(parameters) };
}
