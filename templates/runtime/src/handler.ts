import {
  createMcpHandler,
  DEFAULT_MAX_REQUEST_BODY_SIZE,
  isJsonContentType,
  isLegacyRequest,
  readRequestBody,
} from "@modelcontextprotocol/server";
import { jsonRpcError } from "./answer.ts";
import type { Host } from "./call.ts";
import { createCatalog, type Catalog, type Generated } from "./catalog.ts";
import { bodyEnvironment, requestStateKey, secretValues, versionName, type Environment } from "./environment.ts";
import type { Extension } from "./extension.ts";
import { createGuard } from "./guard.ts";
import { createStateCodec } from "./input.ts";
import { holdsInfinity, wellFormedJson } from "./json.ts";
import { plainEra, serveLegacy } from "./legacy.ts";
import { lockIntrinsics } from "./lockdown.ts";
import { guardLogs, hideInLogs } from "./log.ts";
import { createPlainCalls } from "./plain-call.ts";
import { DefinitionServer, type BegunCall } from "./server.ts";
import { createSessionClass } from "./session.ts";
import { createSessionRoute, type SessionRoute } from "./session-route.ts";
import { createListening } from "./subscription.ts";
import { logUncaught } from "./uncaught.ts";

type Fetch = (request: Request) => Promise<Response>;
type Endpoint = (request: Request, path: string) => Promise<Response>;

/** A server's Worker, and what its Durable Objects share with it. */
export interface ServerWorker {
  /** `POST /mcp` speaks MCP, `GET /health` says that the Worker runs, and which version it is. */
  fetch(request: Request, env: Environment): Promise<Response>;
  /** The server as bodies see it, for code that no request of a client started. */
  host(env: Environment): Host;
  /** The Durable Object class of sessions, which the entry module exports as `McpSession`. */
  Session: ReturnType<typeof createSessionClass>;
}

/** The Worker of a server, with what its template adds. */
export function createWorker(generated: Generated, extension: Extension = {}): ServerWorker {
  const catalog = createCatalog(generated, extension);
  // Modules have run by now, those of npm packages too; bodies have not.
  guardLogs();
  logUncaught(catalog);
  lockIntrinsics();
  // workerd hands over the same environment again and again, so what depends on it is made once too.
  const host = oncePerEnvironment((env) => createHost(catalog, extension, env));
  const endpoint = oncePerEnvironment((env) => createEndpoint(host(env)));

  return {
    host,
    Session: createSessionClass(host),
    async fetch(request, env) {
      const path = new URL(request.url).pathname;
      if (path === "/health") return Response.json({ status: "ok", version: versionName(env) });
      return endpoint(env)(request, path);
    },
  };
}

function oncePerEnvironment<Made extends object>(make: (env: Environment) => Made): (env: Environment) => Made {
  const made = new WeakMap<Environment, Made>();
  return (env) => {
    let known = made.get(env);
    if (known === undefined) {
      known = make(env);
      made.set(env, known);
    }
    return known;
  };
}

function createHost(catalog: Catalog, extension: Extension, env: Environment): Host {
  const environment = bodyEnvironment(catalog.definition, env);
  // Before any body runs, and on the same way for those that a Durable Object runs.
  hideInLogs(secretValues(catalog.definition, env));
  return { catalog, extension, environment, bindings: env, stateCodec: createStateCodec(requestStateKey(env)) };
}

function createEndpoint(host: Host): Endpoint {
  const guard = createGuard(host.catalog.definition, host.bindings);
  const sessions = createSessionRoute(host.bindings);
  const serve = createProtocol(host, sessions);

  return async (request, path) => {
    const refusal = await guard(request);
    if (refusal !== undefined) return refusal;
    if (path !== "/mcp") return Response.json({ error: "not found: MCP is at /mcp" }, { status: 404 });
    if (request.method === "POST") return serve(request);
    // Without sessions there is no stream to open by GET, and nothing to DELETE.
    return sessions?.passOn(request) ?? jsonRpcError(405, -32000, "Method not allowed.", { Allow: "POST" });
  };
}

/** Reads a message and serves it in the era it belongs to. */
function createProtocol(host: Host, sessions: SessionRoute | undefined): Fetch {
  const plainCalls = createPlainCalls(host);
  const listening = createListening(host);
  const begunCalls = new WeakMap<Request, BegunCall>();
  const modern = createMcpHandler(
    ({ requestInfo }) => new DefinitionServer(host, { era: "modern", begun: requestInfo && begunCalls.get(requestInfo) }),
    { legacy: "reject" },
  );
  const bySdk = {
    modern(request: Request, message: unknown, begun?: BegunCall) {
      if (begun !== undefined) begunCalls.set(request, begun);
      return modern.fetch(request, { parsedBody: message });
    },
    legacy: (request: Request, message: unknown, begun?: BegunCall) =>
      serveLegacy(new DefinitionServer(host, { era: "legacy", begun }), request, message),
  };

  return async (request) => {
    if (!isJsonContentType(request.headers.get("content-type"))) {
      return jsonRpcError(415, -32000, "Unsupported Media Type: Content-Type must be application/json");
    }
    const received = await readBounded(request);
    if (received === undefined) {
      await discardBody(request);
      return jsonRpcError(413, -32000, `Payload Too Large: Request body must not exceed ${DEFAULT_MAX_REQUEST_BODY_SIZE} bytes`);
    }
    // What a client sends is part of many an answer.
    const text = wellFormedJson(received);
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      return jsonRpcError(400, -32700, "Parse error: the request body is not valid JSON");
    }
    if (holdsInfinity(text, message)) {
      return jsonRpcError(400, -32700, "Parse error: a number in the request body is out of range");
    }
    const plain = plainEra(request, message);
    const era = plain ?? ((await isLegacyRequest(request, message)) ? "legacy" : "modern");
    const inSession = era === "legacy" ? await sessions?.serve(request, message, text) : undefined;
    if (inSession !== undefined) return inSession;
    const stream = era === "modern" ? listening(request, message, (narrowed) => bySdk.modern(request, narrowed)) : undefined;
    if (stream !== undefined) return stream;
    const serve = (begun?: BegunCall) => bySdk[era](request, message, begun);
    return (plain && plainCalls(request, message, plain, serve)) ?? serve();
  };
}

/** The text of a request's body, or `undefined` when it is too large. */
async function readBounded(request: Request): Promise<string | undefined> {
  // A declared length binds the client, and reading natively costs a tenth of a call less.
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) <= DEFAULT_MAX_REQUEST_BODY_SIZE) return request.text();
  const body = await readRequestBody(request, DEFAULT_MAX_REQUEST_BODY_SIZE);
  return body.tooLarge ? undefined : body.text;
}

const DISCARD_MILLISECONDS = 2000;

/** A client that is still sending reads no answer: it would see a broken connection instead. */
async function discardBody(request: Request): Promise<void> {
  const signal = AbortSignal.timeout(DISCARD_MILLISECONDS);
  await request.body?.pipeTo(new WritableStream(), { signal }).catch(() => {});
}
