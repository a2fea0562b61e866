import type { CallToolResult, Server, ServerCapabilities, Tool } from "@modelcontextprotocol/server";
import type { Caller, Era, Host } from "./call.ts";
import type { BodyContext } from "./context.ts";
import type { InputNeeded } from "./input.ts";

/** What a template adds to the plain server. Every member is optional. */
export interface Extension {
  /** The template's own tools, by the names that its `template.json` gives them. */
  tools?: Record<string, TemplateTool>;
  /** Stands around each call of a tool that the definition has. */
  around?(call: ToolCall, next: () => Promise<ToolOutcome>): Promise<ToolOutcome>;
  /** Tools that are known at run time only; listed behind all others. */
  dynamicTools?: DynamicTools;
  /** Further methods, registered on the server of each request. */
  extendServer?(server: Server, host: Host, era: Era): void;
  /** Capabilities beside those that follow from the definition. */
  capabilities?: Partial<ServerCapabilities>;
}

export type ToolOutcome = CallToolResult | InputNeeded;

/** A call of one of the definition's tools, with arguments that were checked. */
export interface ToolCall {
  host: Host;
  name: string;
  parameters: Record<string, unknown>;
  caller: Caller;
}

/** What a template's tool is called with beside its arguments. */
export interface TemplateCall {
  host: Host;
  caller: Caller;
  /** What a body sees as `ctx`: `callTool` calls the definition's tools within all of their limits. */
  context: BodyContext;
}

/** A template's tool returns what a body may return. */
export type TemplateTool = (parameters: any, call: TemplateCall) => unknown;

/** Neither member throws or takes long: what cannot be known now is left out. */
export interface DynamicTools {
  list(host: Host): Promise<Tool[]>;
  /** Whoever made the tool checks its arguments. */
  find(host: Host, name: string): Promise<TemplateTool | undefined>;
}
