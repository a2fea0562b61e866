/**
 * The shape of `definition.json`: a server definition after validation, with
 * every default filled in. The generator writes it; nothing here checks it again.
 */

export type JsonSchema = Record<string, unknown>;

export interface Limits {
  timeoutMs: number;
  responseBytes: number;
  concurrency?: number;
}

export interface ToolDefinition {
  name: string;
  title?: string;
  description: string;
  inputSchema: JsonSchema;
  outputSchema?: JsonSchema;
  annotations?: Record<string, unknown>;
  limits: Limits;
  /** Absent for a tool that the template brings. */
  body?: string;
}

/** How long and by whom a result may be kept: `ttlMs` and `cacheScope` of MCP 2026-07-28. */
export interface CacheHint {
  ttlMs: number;
  cacheScope: "public" | "private";
}

/** Exactly one of `uri` and `uriTemplate` is present. */
export interface ResourceDefinition {
  uri?: string;
  uriTemplate?: string;
  name: string;
  title?: string;
  description: string;
  mimeType: string;
  annotations?: Record<string, unknown>;
  /** Values offered for the variables of a `uriTemplate`. */
  completion?: Record<string, string[]>;
  /** For what a read answers. */
  cache?: CacheHint;
  limits: Limits;
  body: string;
}

export interface PromptArgument {
  name: string;
  description: string;
  required: boolean;
  completion?: string[];
}

/** Exactly one of `template` and `body` is present. */
export interface PromptDefinition {
  name: string;
  title?: string;
  description: string;
  arguments: PromptArgument[];
  template?: string;
  body?: string;
  limits: Limits;
}

export interface Definition {
  name: string;
  description: string;
  version: string;
  template: string;
  limits: Limits;
  /** For what the list methods answer. */
  cache?: CacheHint;
  auth: "none" | { bearer: { secret: string } };
  vars: string[];
  secrets: string[];
  bindings: string[];
  /** The template's options, defaults filled in. */
  options: Record<string, unknown>;
  tools: ToolDefinition[];
  resources: ResourceDefinition[];
  prompts: PromptDefinition[];
}
