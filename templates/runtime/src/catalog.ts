import type { Prompt, Resource, ResourceTemplateType, Tool } from "@modelcontextprotocol/server";
import type { Body, BoundBody } from "./body.ts";
import { Slots } from "./concurrency.ts";
import type { Definition, Limits, PromptDefinition, ResourceDefinition, ToolDefinition } from "./definition.ts";
import type { Extension, TemplateTool } from "./extension.ts";
import { createCheck, type Check } from "./schema.ts";
import { createUriMatcher, type UriMatcher } from "./uri-template.ts";

/** The generated modules of one server. */
export interface Generated {
  /** `definition.json` as the bundler reads it: its inferred literal type says nothing of use. */
  definition: object;
  bodies: Record<string, Body>;
  firstBodyLine: number;
}

export interface CatalogTool {
  definition: ToolDefinition;
  /** Present for a tool that the template brings; its `body` has the limits and no code of its own. */
  template: TemplateTool | undefined;
  body: BoundBody;
  checkInput: Check;
  checkOutput: Check | undefined;
  /** Whether clients of the newer era send arguments in headers too (`x-mcp-header`). */
  takesHeaders: boolean;
}

export interface CatalogResource {
  definition: ResourceDefinition;
  body: BoundBody;
}

export interface CatalogPrompt {
  definition: PromptDefinition;
  /** Absent for a prompt that is a text with placeholders. */
  body: BoundBody | undefined;
}

/** Everything about a server that does not change from request to request, built once. */
export interface Catalog {
  definition: Definition;
  tools: ReadonlyMap<string, CatalogTool>;
  resources: ReadonlyMap<string, CatalogResource>;
  resourceTemplates: readonly (CatalogResource & { match: UriMatcher })[];
  prompts: ReadonlyMap<string, CatalogPrompt>;
  /** A tool that is known at run time only, within the server's limits. */
  dynamicTool(name: string, template: TemplateTool): CatalogTool;
  /** The answers to the list methods, in the definition's order. */
  lists: {
    tools: { tools: Tool[] };
    resources: { resources: Resource[] };
    resourceTemplates: { resourceTemplates: ResourceTemplateType[] };
    prompts: { prompts: Prompt[] };
  };
}

/** For a definition without a limit. */
const DEFAULT_CONCURRENCY = 64;

export function createCatalog({ definition: generated, bodies, firstBodyLine }: Generated, extension: Extension): Catalog {
  const definition = frozen(generated) as Definition;
  const serverSlots = new Slots(definition.limits.concurrency ?? DEFAULT_CONCURRENCY);

  function bind(label: string, module: string, limits: Limits): BoundBody {
    const run = bodies[module];
    if (run === undefined) throw new Error(`${label} has no body ${module}`);
    return limited(label, run, module, limits);
  }

  function limited(label: string, run: Body, module: string, limits: Limits): BoundBody {
    // Unlimited slots are not counted: nothing would ever drop what a vanished client left in them.
    const slots = [serverSlots, ...(limits.concurrency === undefined ? [] : [new Slots(limits.concurrency)])];
    return { label, run, source: { module, firstLine: firstBodyLine }, slots, ...limits };
  }

  function bindTool(tool: ToolDefinition): Pick<CatalogTool, "body" | "template"> {
    const label = `tool ${JSON.stringify(tool.name)}`;
    if (tool.body !== undefined) return { body: bind(label, tool.body, tool.limits), template: undefined };
    const template = extension.tools?.[tool.name];
    if (template === undefined) throw new Error(`the template has no ${label}`);
    return { body: limited(label, template, "", tool.limits), template };
  }

  const tools = definition.tools.map((tool) => ({
    definition: tool,
    ...bindTool(tool),
    checkInput: createCheck(tool.inputSchema),
    checkOutput: tool.outputSchema && createCheck(tool.outputSchema),
    takesHeaders: JSON.stringify(tool.inputSchema).includes('"x-mcp-header"'),
  }));
  const resources = definition.resources.map((resource) => ({
    definition: resource,
    body: bind(`resource ${JSON.stringify(resource.name)}`, resource.body, resource.limits),
  }));
  const prompts = definition.prompts.map((prompt) => ({
    definition: prompt,
    body: prompt.body === undefined ? undefined : bind(`prompt ${JSON.stringify(prompt.name)}`, prompt.body, prompt.limits),
  }));

  return {
    definition,
    tools: new Map(tools.map((tool) => [tool.definition.name, tool])),
    resources: new Map(
      resources.flatMap((resource) => (resource.definition.uri === undefined ? [] : [[resource.definition.uri, resource]])),
    ),
    resourceTemplates: resources.flatMap((resource) => {
      const template = resource.definition.uriTemplate;
      return template === undefined ? [] : [{ ...resource, match: createUriMatcher(template) }];
    }),
    prompts: new Map(prompts.map((prompt) => [prompt.definition.name, prompt])),
    dynamicTool: (name, template) => ({
      definition: { name, description: "", inputSchema: {}, limits: definition.limits },
      // Slots of its own would be new with each call.
      body: { ...limited(`tool ${JSON.stringify(name)}`, template, "", definition.limits), slots: [serverSlots] },
      template,
      checkInput: () => undefined,
      checkOutput: undefined,
      takesHeaders: false,
    }),
    lists: {
      tools: { tools: definition.tools.map(listedTool) },
      resources: { resources: definition.resources.flatMap(listedResource) },
      resourceTemplates: { resourceTemplates: definition.resources.flatMap(listedTemplate) },
      prompts: { prompts: definition.prompts.map(listedPrompt) },
    },
  };
}

function listedTool({ limits, body, ...listed }: ToolDefinition): Tool {
  return listed as Tool;
}

function listedResource({ limits, body, cache, completion, uriTemplate, uri, ...listed }: ResourceDefinition): Resource[] {
  return uri === undefined ? [] : [{ uri, ...listed }];
}

function listedTemplate({ limits, body, cache, completion, uri, uriTemplate, ...listed }: ResourceDefinition): ResourceTemplateType[] {
  return uriTemplate === undefined ? [] : [{ uriTemplate, ...listed }];
}

function listedPrompt({ limits, body, template, ...listed }: PromptDefinition): Prompt {
  return { ...listed, arguments: listed.arguments.map(({ completion, ...argument }) => argument) };
}

/** Bodies can import `definition.json` themselves: none may change what the server says of itself. */
function frozen<Value>(value: Value): Value {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  Object.values(value).forEach(frozen);
  return Object.freeze(value);
}
