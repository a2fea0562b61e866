import {
  McpServer,
  PerRequestHTTPServerTransport,
  ProtocolError,
  ProtocolErrorCode,
  ResourceNotFoundError,
  specTypeSchemas,
  type CallToolResult,
  type InputRequiredResult,
  type Server,
  type ServerCapabilities,
  type ServerContext,
  type Transport,
} from "@modelcontextprotocol/server";
import { serveCall, type Client, type Era, type Host, type RequestContext } from "./call.ts";
import type { CacheHint, Definition } from "./definition.ts";
import type { RoundState } from "./input.ts";
import { completeArgument, getPrompt } from "./prompt.ts";
import { findResource, readResource } from "./resource.ts";
import { directoryOf } from "./session-binding.ts";
import { callTool } from "./tool.ts";

/** A call of a tool that began before the SDK had to do with it. */
export type BegunCall = (context: ServerContext) => Promise<CallToolResult | InputRequiredResult>;

/** What a server is made for. */
export interface Serving {
  era: Era;
  /** The id of the session that it serves, if that is what it serves. */
  session?: string;
  /** What its `tools/call` answers with, where that began already. */
  begun?: BegunCall | undefined;
}

/** Given to the SDK, which otherwise takes parameters that do not fit for an internal error. */
const { ReadResourceRequestParams: READ, GetPromptRequestParams: GET, CompleteRequestParams: COMPLETE } = specTypeSchemas;

/**
 * The server of one request. It registers no tools: its handlers look them up in
 * the catalog, which is built once, so that a server of a thousand tools answers as
 * fast as a server of one. (Registering fifty per request halves the throughput.)
 */
export class DefinitionServer extends McpServer {
  readonly #host: Host;

  constructor(host: Host, { era, session, begun }: Serving) {
    const { catalog, stateCodec } = host;
    const { name, version, description } = catalog.definition;
    const subscribe = session !== undefined || (era === "modern" && directoryOf(host.bindings) !== undefined);
    super(
      { name, version, description },
      {
        capabilities: { ...capabilitiesOf(catalog.definition, subscribe), ...host.extension.capabilities },
        cacheHints: cacheHintsOf(catalog.definition.cache),
        inputRequired: { maxRounds: MOST_ROUNDS },
        requestState: { verify: (state, context) => stateCodec.verify(state, context) as Promise<RoundState> },
      },
    );
    this.#host = host;
    const { server } = this;

    const client = () => ({ era, capabilities: server.getClientCapabilities() });

    const { extension } = host;
    server.setRequestHandler("tools/list", async () => {
      if (extension.dynamicTools === undefined) return catalog.lists.tools;
      return { tools: [...catalog.lists.tools.tools, ...(await extension.dynamicTools.list(host))] };
    });
    server.setRequestHandler("tools/call", async ({ params }, context) => {
      const result = await (begun?.(context) ?? callForClient(host, client(), context, params));
      if (isInputRequired(result)) return result;
      return server.projectCallToolResult(result, catalog.tools.get(params.name)?.definition.outputSchema);
    });

    if (catalog.definition.resources.length > 0) {
      server.setRequestHandler("resources/list", () => catalog.lists.resources);
      server.setRequestHandler("resources/templates/list", () => catalog.lists.resourceTemplates);
      server.setRequestHandler("resources/read", { params: READ }, ({ uri }, context) =>
        serveCall(host, client(), context, { name: uri, parameters: {} }, (caller) => readResource(host, era, uri, caller)),
      );
      if (session !== undefined) addSubscriptions(server, host, session);
    }

    if (catalog.definition.prompts.length > 0) {
      server.setRequestHandler("prompts/list", () => catalog.lists.prompts);
      server.setRequestHandler("prompts/get", { params: GET }, ({ name, arguments: given = {} }, context) =>
        serveCall(host, client(), context, { name, parameters: given }, (caller) => getPrompt(host, name, given, caller)),
      );
    }
    if (hasCompletions(catalog.definition)) {
      server.setRequestHandler("completion/complete", { params: COMPLETE }, (params) => completeArgument(catalog, params));
    }
    extension.extendServer?.(server, host, era);
  }

  /**
   * On closing, the SDK makes an error with a stack for whatever is still pending, which costs a tenth of a call.
   * Where a transport serves one request nothing is, once the answer is sent.
   */
  override async connect(transport: Transport): Promise<void> {
    await super.connect(transport);
    if (!(transport instanceof PerRequestHTTPServerTransport)) return;
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      if ("result" in message || "error" in message) transport.onclose = () => this.server.onclose?.();
      return send(message, options);
    };
  }

  /** The SDK asks this to check the headers that a tool's `x-mcp-header` parameters come with. */
  override toolInputSchemaJson(name: string): Record<string, unknown> | undefined {
    return this.#host.catalog.tools.get(name)?.definition.inputSchema;
  }
}

/** Calls a tool for a client. */
export function callForClient(
  host: Host,
  client: Client,
  request: RequestContext,
  { name, arguments: parameters }: { name: string; arguments?: Record<string, unknown> | undefined },
): Promise<CallToolResult | InputRequiredResult> {
  return serveCall(host, client, request, { name, parameters }, (caller) => callTool(host, name, parameters, caller));
}

/** Rounds of questions that one call of a session may take. */
const MOST_ROUNDS = 32;

/** Tools always, so that an empty server answers `tools/list` with an empty list; the rest where there is any. */
function capabilitiesOf(definition: Definition, subscribe: boolean): ServerCapabilities {
  return {
    tools: { listChanged: false },
    logging: {},
    ...(definition.resources.length > 0 && { resources: { listChanged: false, subscribe } }),
    ...(definition.prompts.length > 0 && { prompts: { listChanged: false } }),
    ...(hasCompletions(definition) && { completions: {} }),
  };
}

function hasCompletions({ prompts, resources }: Definition): boolean {
  return prompts.length > 0 || resources.some(({ uriTemplate }) => uriTemplate !== undefined);
}

function cacheHintsOf(hint: CacheHint | undefined) {
  if (hint === undefined) return {};
  return {
    "tools/list": hint,
    "prompts/list": hint,
    "resources/list": hint,
    "resources/templates/list": hint,
  };
}

/** A session's client may ask to be told when a resource changes. */
function addSubscriptions(server: Server, host: Host, session: string): void {
  const directory = directoryOf(host.bindings);
  server.setRequestHandler("resources/subscribe", async ({ params: { uri } }) => {
    if (findResource(host.catalog, uri) === undefined) throw new ResourceNotFoundError(uri);
    if (await directory?.subscribe(session, uri)) return {};
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, "the session has too many subscriptions: unsubscribe from some");
  });
  server.setRequestHandler("resources/unsubscribe", async ({ params: { uri } }) => {
    await directory?.unsubscribe(session, uri);
    return {};
  });
}

export function isInputRequired(result: object): result is InputRequiredResult {
  return "resultType" in result && result.resultType === "input_required";
}
