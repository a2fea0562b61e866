import { DurableObject } from "cloudflare:workers";
import {
  isInitializeRequest,
  isJSONRPCRequest,
  WebStandardStreamableHTTPServerTransport,
  type JSONRPCMessage,
} from "@modelcontextprotocol/server";
import { jsonRpcError } from "./answer.ts";
import type { Host } from "./call.ts";
import type { Environment } from "./environment.ts";
import { restoreErrorCodes } from "./legacy.ts";
import { DefinitionServer } from "./server.ts";
import { directoryOf, SESSION_HEADER, sessionNotFound } from "./session-binding.ts";
import { SessionEvents } from "./session-events.ts";

/** A session without a request for so long ends. */
const IDLE_MILLISECONDS = 24 * 60 * 60 * 1000;
/** Use is written down no more often than this. */
const TOUCH_MILLISECONDS = 60 * 1000;
/** How long a client waits before it comes back for a stream that ended. */
const RETRY_MILLISECONDS = 1000;

const LONGEST_LEVEL = 32;

/** What makes a session again after its object left memory: the client's own words. */
interface Stored {
  initialize: JSONRPCMessage;
  setLevel?: JSONRPCMessage;
}

/** A session whose object is in memory. */
interface Live {
  server: DefinitionServer;
  transport: WebStandardStreamableHTTPServerTransport;
  events: SessionEvents;
}

/** The calls that the Worker and the directory make. */
export interface SessionCalls {
  resourceUpdated(uri: string): Promise<void>;
  end(): Promise<void>;
}

/**
 * The Durable Object of one session of a 2025 client: it keeps the connection over which the server asks its
 * client, and what the client said about itself. Each object is one session, and its id is the session's.
 */
export function createSessionClass(hostOf: (env: Environment) => Host) {
  return class McpSession extends DurableObject<Environment> implements SessionCalls {
    #live: Promise<Live> | undefined;
    #touched = 0;

    override async fetch(request: Request): Promise<Response> {
      const message = request.method === "POST" ? await request.json<JSONRPCMessage>() : undefined;
      if (isInitializeRequest(message) && !request.headers.has(SESSION_HEADER)) return this.#open(request, message);

      const live = await this.#resume();
      if (live === undefined) return sessionNotFound();
      await this.#touch();
      if (request.method === "GET") return listen(live, request);
      const response = await live.transport.handleRequest(request, { parsedBody: message });
      if (request.method === "DELETE" && response.ok) await this.#forget();
      if (isJSONRPCRequest(message) && message.method === "logging/setLevel") await this.#keepLevel(message.params?.["level"]);
      return response;
    }

    override async alarm(): Promise<void> {
      const touched = (await this.ctx.storage.get<number>("touched")) ?? 0;
      const expires = touched + IDLE_MILLISECONDS;
      if (Date.now() < expires) await this.ctx.storage.setAlarm(expires);
      else await this.end();
    }

    /** Ends the session; its client is told 404 from now on. */
    async end(): Promise<void> {
      await (await this.#live)?.transport.close();
      await this.#forget();
    }

    /** Tells the client that a resource it subscribed to changed, if it listens. */
    async resourceUpdated(uri: string): Promise<void> {
      // An object that is not in memory has no stream to send it on.
      await (await this.#live)?.server.server.sendResourceUpdated({ uri });
    }

    async #open(request: Request, initialize: JSONRPCMessage): Promise<Response> {
      this.#touched = Date.now();
      // Not awaited, so that they are written as one; the answer waits for it in any case.
      void this.ctx.storage.put({ stored: { initialize } satisfies Stored, touched: this.#touched });
      void this.ctx.storage.setAlarm(this.#touched + IDLE_MILLISECONDS);
      this.#live = this.#connect();
      const response = await (await this.#live).transport.handleRequest(request, { parsedBody: initialize });
      if (!response.ok) await this.#forget();
      return response;
    }

    /** The session, made again from what is stored where the object had left memory; `undefined` where there is none. */
    async #resume(): Promise<Live | undefined> {
      if (this.#live !== undefined) return this.#live;
      const stored = await this.ctx.storage.get<Stored>("stored");
      if (stored === undefined) return undefined;
      // Another request may have come in between.
      this.#live ??= this.#replay(stored);
      this.#live.catch(() => (this.#live = undefined));
      return this.#live;
    }

    async #replay({ initialize, setLevel }: Stored): Promise<Live> {
      const live = await this.#connect();
      const initialized: JSONRPCMessage = { jsonrpc: "2.0", method: "notifications/initialized" };
      for (const message of [initialize, initialized, ...(setLevel === undefined ? [] : [setLevel])]) {
        const headers = new Headers({ accept: "application/json, text/event-stream", "content-type": "application/json" });
        if (message !== initialize) headers.set(SESSION_HEADER, this.ctx.id.toString());
        const request = new Request("http://session/mcp", { method: "POST", headers });
        const response = await live.transport.handleRequest(request, { parsedBody: message });
        await response.text();
      }
      return live;
    }

    async #connect(): Promise<Live> {
      const host = hostOf(this.env);
      const server = new DefinitionServer(host, { era: "session", session: this.ctx.id.toString() });
      const events = new SessionEvents();
      const transport = new WebStandardStreamableHTTPServerTransport({
        sessionIdGenerator: () => this.ctx.id.toString(),
        eventStore: events,
        retryInterval: RETRY_MILLISECONDS,
      });
      restoreErrorCodes(transport);
      await server.connect(transport);
      return { server, transport, events };
    }

    async #keepLevel(level: unknown): Promise<void> {
      const stored = await this.ctx.storage.get<Stored>("stored");
      if (stored === undefined || typeof level !== "string" || level.length > LONGEST_LEVEL) return;
      const setLevel: JSONRPCMessage = { jsonrpc: "2.0", id: 0, method: "logging/setLevel", params: { level } };
      await this.ctx.storage.put("stored", { ...stored, setLevel });
    }

    async #touch(): Promise<void> {
      const now = Date.now();
      if (now - this.#touched < TOUCH_MILLISECONDS) return;
      this.#touched = now;
      await this.ctx.storage.put("touched", now);
      await directoryOf(this.env)?.touch(this.ctx.id.toString());
    }

    async #forget(): Promise<void> {
      this.#live = undefined;
      await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.deleteAll();
      await directoryOf(this.env)?.close(this.ctx.id.toString());
    }
  };
}

/** Opens a stream by GET: afresh, or where `Last-Event-ID` says that another one broke off. */
async function listen({ transport, events }: Live, request: Request): Promise<Response> {
  const last = request.headers.get("last-event-id");
  if (last !== null && events.has(last)) return transport.handleRequest(request);
  if (last !== null && !events.isStandalone(last)) {
    return jsonRpcError(400, -32000, "Bad Request: what the stream missed is not kept any more");
  }
  const headers = new Headers(request.headers);
  headers.delete("last-event-id");
  // A client that lost its stream may be back before the loss is noticed: the newest stream counts.
  transport.closeStandaloneSSEStream();
  return transport.handleRequest(new Request(request.url, { headers }));
}
