import type { CallToolResult, Server, ServerCapabilities, Tool } from "@modelcontextprotocol/server";
import type { BoundBody } from "./body.ts";
import type { Caller, Era, Host } from "./call.ts";
import type { BodyContext } from "./context.ts";
import type { Limits } from "./definition.ts";
import type { InputNeeded } from "./input.ts";

/** What a template adds to the plain server. Every member is optional. */
export interface Extension {
  /** The template's own tools, by the names that its `template.json` gives them. */
  tools?: Record<string, TemplateTool>;
  /**
   * Stands around each call of a tool that the definition has. `next` runs the body, as often as it is called;
   * where that fails, it rejects with a `BodyFailure`, whose `kind` says why. All of it together has to end within
   * the tool's `timeoutMs`: whoever called waits no longer.
   */
  around?(call: ToolCall, next: (limits?: RunLimits) => Promise<ToolOutcome>): Promise<ToolOutcome>;
  /** Tools that are known at run time only; listed behind all others. */
  dynamicTools?: DynamicTools;
  /** Further methods, registered on the server of each request. */
  extendServer?(server: Server, host: Host, era: Era): void;
  /** Capabilities beside those that follow from the definition. */
  capabilities?: Partial<ServerCapabilities>;
}

export type ToolOutcome = CallToolResult | InputNeeded;

/** Within the tool's own limits: how long one run may take, may wait for a slot, and when it has to have ended. */
export type RunLimits = Partial<Pick<BoundBody, "timeoutMs" | "waitMs" | "until">>;

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
  /** The tool's own. */
  limits: Limits;
  /**
   * What a body sees as `ctx`: `callTool` calls the definition's tools within all of their limits. Calls that run side
   * by side are made by `callAside`.
   */
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
