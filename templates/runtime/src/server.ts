import { McpServer, type InputRequiredResult, type ServerCapabilities } from "@modelcontextprotocol/server";
import { serveCall, type Era, type Host } from "./call.ts";
import type { Definition } from "./definition.ts";
import type { RoundState } from "./input.ts";
import { completeArgument, getPrompt } from "./prompt.ts";
import { readResource } from "./resource.ts";
import { callTool } from "./tool.ts";

/**
 * The server of one request. It registers no tools: its handlers look them up in
 * the catalog, which is built once, so that a server of a thousand tools answers as
 * fast as a server of one. (Registering fifty per request halves the throughput.)
 */
export class DefinitionServer extends McpServer {
  readonly #host: Host;

  constructor(host: Host, era: Era) {
    const { catalog, stateCodec } = host;
    const { name, version, description } = catalog.definition;
    super(
      { name, version, description },
      {
        capabilities: { ...capabilitiesOf(catalog.definition), ...host.extension.capabilities },
        requestState: { verify: (state, context) => stateCodec.verify(state, context) as Promise<RoundState> },
      },
    );
    this.#host = host;
    const { server } = this;

    const { extension } = host;
    server.setRequestHandler("tools/list", async () => {
      if (extension.dynamicTools === undefined) return catalog.lists.tools;
      return { tools: [...catalog.lists.tools.tools, ...(await extension.dynamicTools.list(host))] };
    });
    server.setRequestHandler("tools/call", async ({ params }, context) => {
      const what = { name: params.name, parameters: params.arguments };
      const result = await serveCall(host, era, context, what, (caller) =>
        callTool(host, params.name, params.arguments, caller),
      );
      if (isInputRequired(result)) return result;
      return server.projectCallToolResult(result, catalog.tools.get(params.name)?.definition.outputSchema);
    });

    if (catalog.definition.resources.length > 0) {
      server.setRequestHandler("resources/list", () => catalog.lists.resources);
      server.setRequestHandler("resources/templates/list", () => catalog.lists.resourceTemplates);
      server.setRequestHandler("resources/read", ({ params }, context) =>
        serveCall(host, era, context, { name: params.uri, parameters: {} }, (caller) =>
          readResource(host, params.uri, caller),
        ),
      );
    }

    if (catalog.definition.prompts.length > 0) {
      server.setRequestHandler("prompts/list", () => catalog.lists.prompts);
      server.setRequestHandler("prompts/get", ({ params }, context) => {
        const given = params.arguments ?? {};
        return serveCall(host, era, context, { name: params.name, parameters: given }, (caller) =>
          getPrompt(host, params.name, given, caller),
        );
      });
      server.setRequestHandler("completion/complete", ({ params }) => completeArgument(catalog, params));
    }
    extension.extendServer?.(server, host, era);
  }

  /** The SDK asks this to check the headers that a tool's `x-mcp-header` parameters come with. */
  override toolInputSchemaJson(name: string): Record<string, unknown> | undefined {
    return this.#host.catalog.tools.get(name)?.definition.inputSchema;
  }
}

/** Tools always, so that an empty server answers `tools/list` with an empty list; the rest where there is any. */
function capabilitiesOf(definition: Definition): ServerCapabilities {
  return {
    tools: { listChanged: false },
    logging: {},
    ...(definition.resources.length > 0 && { resources: { listChanged: false } }),
    ...(definition.prompts.length > 0 && { prompts: { listChanged: false }, completions: {} }),
  };
}

function isInputRequired(result: object): result is InputRequiredResult {
  return "resultType" in result && result.resultType === "input_required";
}
