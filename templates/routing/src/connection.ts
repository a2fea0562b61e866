import { exchange, type OnNotification } from "./exchange.ts";
import { quoted, UpstreamFailure } from "./failure.ts";
import { isObject } from "./runtime/schema.ts";
import type { Bounds } from "./stream.ts";

/**
 * A client of MCP over streamable HTTP, of both eras. It is our own because the official one adds 202 kB to a bundle of
 * 321 kB, and reads answers of any size.
 */
export class Connection {
  /** How the replica is spoken to; absent before the first request, and after one that says that it changed. */
  #agreed: Agreed | undefined;
  #lastId = 0;

  constructor(
    readonly url: string,
    readonly headers: () => Record<string, string>,
    readonly client: { name: string; version: string },
  ) {}

  /** Makes a request, and first agrees on a revision where that was not done yet. */
  async request(method: string, params: Record<string, unknown>, options: RequestOptions): Promise<unknown> {
    const known = this.#agreed;
    const agreed = known ?? (await this.#connect(options));
    try {
      return await this.#send(agreed, method, params, options);
    } catch (thrown) {
      // A server that was restarted or replaced knows no session of before, or speaks another revision now.
      if (known === undefined || !isForgotten(thrown, known)) throw thrown;
      if (this.#agreed === known) this.#agreed = undefined;
      return this.#send(await this.#connect(options), method, params, options);
    }
  }

  /** Asks whether the replica speaks MCP: the health check. */
  async check(options: Bounds): Promise<void> {
    if (this.#agreed === undefined) await this.#connect(options);
    else await this.request(this.#agreed.era === "modern" ? "server/discover" : "ping", {}, options);
  }

  /** Nothing that was asked for is sent before this, so that whatever fails in it was certainly not carried out. */
  async #connect(bounds: Bounds): Promise<Agreed> {
    try {
      const agreed = (await this.#discover(bounds)) ?? (await this.#initialize(bounds));
      this.#agreed = agreed;
      return agreed;
    } catch (thrown) {
      if (!(thrown instanceof UpstreamFailure) || thrown.kind === "refused") throw thrown;
      throw new UpstreamFailure("refused", thrown.message, thrown);
    }
  }

  /** `undefined` for a server that does not know the newer era. */
  async #discover(bounds: Bounds): Promise<Agreed | undefined> {
    try {
      const result = await this.#send({ era: "modern" }, "server/discover", {}, bounds);
      const versions = isObject(result) ? result["supportedVersions"] : undefined;
      return Array.isArray(versions) && versions.includes(MODERN) ? { era: "modern" } : undefined;
    } catch (thrown) {
      if (thrown instanceof UpstreamFailure && isOlder(thrown)) return undefined;
      throw thrown;
    }
  }

  async #initialize(bounds: Bounds): Promise<Agreed> {
    const params = { protocolVersion: LEGACY[0], capabilities: {}, clientInfo: this.client };
    const first = await exchange(this.url, this.headers(), { method: "initialize", params, id: this.#nextId() }, bounds);
    const version = isObject(first.result) ? first.result["protocolVersion"] : undefined;
    if (typeof version !== "string" || !LEGACY.includes(version)) {
      throw new UpstreamFailure("invalid", `speaks no revision of MCP that is known here: ${quoted(JSON.stringify(version) ?? "none")}`);
    }
    const session = first.headers.get("mcp-session-id") ?? undefined;
    if (session !== undefined && !/^[\x21-\x7e]{1,1024}$/.test(session)) {
      throw new UpstreamFailure("invalid", "gave a session id that no header can carry");
    }
    const agreed: Agreed = { era: "legacy", version, session };
    const initialized = { method: "notifications/initialized", params: {} };
    await exchange(this.url, { ...this.headers(), ...legacyHeaders(agreed) }, initialized, bounds);
    return agreed;
  }

  async #send(agreed: Agreed, method: string, params: Record<string, unknown>, options: RequestOptions): Promise<unknown> {
    const modern = agreed.era === "modern";
    const headers = modern ? { ...modernHeaders(method, params), ...options.modernHeaders } : legacyHeaders(agreed);
    const meta = {
      ...(modern && modernMeta(this.client)),
      ...(options.onProgress !== undefined && { progressToken: PROGRESS }),
    };
    const message = { method, params: { ...params, ...(Object.keys(meta).length > 0 && { _meta: meta }) }, id: this.#nextId() };
    const { result } = await exchange(this.url, { ...this.headers(), ...headers }, message, options, progressOf(options.onProgress));
    return result;
  }

  #nextId(): number {
    return ++this.#lastId;
  }
}

export interface RequestOptions extends Bounds {
  /** Sent to a server of the newer era only. */
  modernHeaders?: Record<string, string>;
  onProgress?: OnProgress;
}

export type OnProgress = (done: number, total?: number, message?: string) => void;

type Agreed = { era: "modern" } | { era: "legacy"; version: string; session: string | undefined };

const MODERN = "2026-07-28";
/** Those with streamable HTTP, the newest first. */
const LEGACY = ["2025-11-25", "2025-06-18", "2025-03-26"];

const PROGRESS = "progress";

function modernHeaders(method: string, params: Record<string, unknown>): Record<string, string> {
  const { name } = params;
  return { "mcp-protocol-version": MODERN, "mcp-method": method, ...(typeof name === "string" && { "mcp-name": name }) };
}

function modernMeta(client: object): Record<string, unknown> {
  return {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": client,
    "io.modelcontextprotocol/clientCapabilities": {},
  };
}

function legacyHeaders(agreed: Agreed): Record<string, string> {
  if (agreed.era === "modern") return {};
  const { version, session } = agreed;
  return { "mcp-protocol-version": version, ...(session !== undefined && { "mcp-session-id": session }) };
}

/** Servers of the older era refuse `server/discover` in many ways; none of them is silence or a breakdown. */
function isOlder({ kind, status }: UpstreamFailure): boolean {
  if (status === 401 || status === 403 || status === 429) return false;
  if (kind === "refused") return status !== undefined && status >= 400 && status < 500;
  return kind === "error" || kind === "invalid";
}

const UNSUPPORTED_VERSION = -32022;

/** Whether a server says that it does not know what was agreed on before; then it carried nothing out either. */
function isForgotten(thrown: unknown, agreed: Agreed): boolean {
  if (!(thrown instanceof UpstreamFailure)) return false;
  const { status, code } = thrown;
  if (agreed.era === "modern") return code === UNSUPPORTED_VERSION || (thrown.kind === "refused" && (status === 400 || status === 404));
  return status === 404 || status === 400;
}

function progressOf(onProgress: OnProgress | undefined): OnNotification | undefined {
  if (onProgress === undefined) return undefined;
  return (method, { progressToken, progress, total, message }) => {
    if (method !== "notifications/progress" || progressToken !== PROGRESS || !Number.isFinite(progress)) return;
    onProgress(
      progress as number,
      Number.isFinite(total) ? (total as number) : undefined,
      typeof message === "string" ? quoted(message) : undefined,
    );
  };
}
