import type { CallToolResult, Tool } from "@modelcontextprotocol/server";
import type { Host } from "./runtime/call.ts";
import { isObject } from "./runtime/schema.ts";
import { inOrder } from "./balance.ts";
import type { OnProgress, RequestOptions } from "./connection.ts";
import { UpstreamFailure } from "./failure.ts";
import { argumentHeaders } from "./headers.ts";
import type { RoutingOptions, UpstreamOptions } from "./options.ts";
import { onlyAccepted } from "./pin.ts";
import { Replica } from "./replica.ts";
import { compareLists, LIST_BYTES, MOST_PAGES, MOST_TOOLS, readPage, readTools, type Change, type ToolList } from "./tool-list.ts";

/** Listing tools must not take long: an upstream that needs more is left out for now. */
const LIST_MILLISECONDS = 5000;
/** One replica may take this share of that time, so that another has its turn. */
const LIST_SHARE = 0.5;
/** Between two fetches of a list that failed, or lacks a tool that somebody calls. */
const LIST_PAUSE = 5000;
/** A replica that answered within this time is taken to be there still. */
const CHECK_LIFETIME = 10_000;
const CHECK_MILLISECONDS = 2000;
/** The share of the server's own limit that a call to an upstream may take, which leaves time to say that it failed. */
const CALL_SHARE = 0.9;
/** Changes that `route_status` tells. */
const CHANGES_KEPT = 10;

/** One call of one of its tools. */
export interface UpstreamCall {
  parameters: Record<string, unknown>;
  signal: AbortSignal;
  onProgress: OnProgress | undefined;
}

/** An upstream server, with everything that this isolate knows of it. */
export class Upstream {
  readonly name: string;
  readonly prefix: string;
  readonly replicas: readonly Replica[];
  /** The newest list; kept while the upstream is down, so that its tools stay known. */
  list: ToolList | undefined;
  listedAt: number | undefined;
  listFailure: string | undefined;
  readonly changes: Change[] = [];
  #listTriedAt: number | undefined;
  #listing: { done: Promise<void>; until: number } | undefined;
  #turn = 0;

  constructor(
    readonly options: UpstreamOptions,
    private readonly routing: RoutingOptions,
    private readonly host: Host,
  ) {
    const { name, version } = host.catalog.definition;
    this.name = options.name;
    this.prefix = options.prefix ?? `${options.name}_`;
    this.replicas = options.replicas.map(
      (replica, index) => new Replica(index, replica, host.bindings, { name, version }, routing.breaker),
    );
  }

  /** Sees to it that the list is no older than that, as far as it can be done soon. Never throws. */
  async refresh(oldestMs: number = this.routing.refreshMs): Promise<void> {
    const now = Date.now();
    if (this.listedAt !== undefined && this.listFailure === undefined && now - this.listedAt < oldestMs) return;
    if (this.#listing !== undefined && now < this.#listing.until) {
      // Whoever has an older list uses it. The others wait, on a clock of their own: the request that fetches it may end.
      if (this.list === undefined) await Promise.race([this.#listing.done, delay(this.#listing.until - now)]);
      return;
    }
    if (this.#listTriedAt === undefined || now - this.#listTriedAt >= this.#listPause) await this.refreshNow();
  }

  /** The list is fetched no more often than this, however often it seems to be needed. */
  get #listPause(): number {
    return Math.min(this.routing.refreshMs, LIST_PAUSE);
  }

  /** For a name that the list lacks: it may be new. */
  async refreshForNewTool(): Promise<void> {
    await this.refresh(this.#listPause);
  }

  async call(tool: Tool, call: UpstreamCall): Promise<CallToolResult> {
    const repeatable = tool.annotations?.readOnlyHint === true || tool.annotations?.idempotentHint === true;
    const timeoutMs = Math.min(this.options.timeoutMs, this.host.catalog.definition.limits.timeoutMs * CALL_SHARE);
    const failures: string[] = [];
    const candidates = this.#candidates();
    for (const replica of candidates) {
      const state = replica.state(Date.now());
      // Another call checks it just now.
      if (state === "open") continue;
      const doubtful = !repeatable && candidates.length > 1 && !replica.answeredWithin(CHECK_LIFETIME, Date.now());
      try {
        if ((doubtful || state === "half-open") && !(await this.#check(replica, call.signal))) {
          failures.push(this.#told(replica));
          continue;
        }
        return await this.#callReplica(replica, tool, call, timeoutMs);
      } catch (thrown) {
        if (!(thrown instanceof UpstreamFailure) || call.signal.aborted) throw thrown;
        if (thrown.kind === "error") throw await this.#answered(tool, thrown);
        failures.push(`replica ${replica.index} (${replica.host}) ${thrown.message}`);
        // It would be as large elsewhere.
        if (thrown.kind === "large") throw new Error(this.#failed(tool, failures));
        if (thrown.kind !== "refused" && !repeatable) throw new Error(`${this.#failed(tool, failures)}; ${DOUBT}`);
      }
    }
    throw new Error(failures.length === 0 ? this.#down() : this.#failed(tool, failures));
  }

  /** A health check of one replica, also of one that gets no calls; whether it answered. */
  async #check(replica: Replica, signal: AbortSignal): Promise<boolean> {
    const limit = Math.min(this.options.timeoutMs, CHECK_MILLISECONDS);
    replica.startTrial(Date.now(), limit);
    return this.#attempt(replica, signal, limit, async (bounds) => replica.connection.check(bounds)).then(
      () => true,
      (thrown: unknown) => {
        if (!(thrown instanceof UpstreamFailure)) throw thrown;
        // Whoever answers that it knows no such method is there.
        return thrown.kind === "error";
      },
    );
  }

  async checkAll(signal: AbortSignal): Promise<void> {
    await Promise.all(this.replicas.map((replica) => this.#check(replica, signal)));
  }

  async #callReplica(replica: Replica, tool: Tool, call: UpstreamCall, timeoutMs: number): Promise<CallToolResult> {
    replica.calls += 1;
    const started = Date.now();
    const params = { name: tool.name, arguments: call.parameters };
    const result = await this.#attempt(replica, call.signal, timeoutMs, async (bounds) => {
      const options = {
        ...bounds,
        modernHeaders: argumentHeaders(tool.inputSchema, call.parameters),
        ...(call.onProgress && { onProgress: call.onProgress }),
      };
      return readResult(await replica.connection.request("tools/call", params, options));
    });
    replica.measured(Date.now() - started, Date.now());
    return result;
  }

  /** Asks a replica for something, and keeps in mind how that went. */
  async #attempt<Result>(
    replica: Replica,
    signal: AbortSignal,
    milliseconds: number,
    ask: (bounds: RequestOptions) => Promise<Result>,
  ): Promise<Result> {
    const bytes = this.host.catalog.definition.limits.responseBytes;
    try {
      const result = await ask({ bytes, signal: AbortSignal.any([signal, AbortSignal.timeout(milliseconds)]) });
      replica.succeeded(Date.now());
      return result;
    } catch (thrown) {
      // A client that went away says nothing about the replica.
      if (!(thrown instanceof UpstreamFailure) || signal.aborted) throw thrown;
      if (thrown.kind === "error") replica.succeeded(Date.now());
      replica.failed(thrown, Date.now());
      throw thrown;
    }
  }

  #candidates(): Replica[] {
    return inOrder(this.options.strategy, this.replicas, this.#turn++, Date.now());
  }

  /** Fetches the list, however new the one is that is there. Never throws. */
  async refreshNow(): Promise<void> {
    const now = Date.now();
    const done = Promise.withResolvers<void>();
    this.#listing = { done: done.promise, until: now + LIST_MILLISECONDS };
    this.#listTriedAt = now;
    try {
      this.#install(await this.#listSomewhere(AbortSignal.timeout(LIST_MILLISECONDS)));
    } catch (thrown) {
      this.listFailure = thrown instanceof Error ? thrown.message : String(thrown);
    } finally {
      this.#listing = undefined;
      done.resolve();
    }
  }

  #install(list: ToolList): void {
    const now = Date.now();
    const change = this.list && compareLists(this.list, list, now);
    if (change !== undefined) this.changes.splice(0, this.changes.length, change, ...this.changes.slice(0, CHANGES_KEPT - 1));
    this.list = list;
    this.listedAt = now;
    this.listFailure = undefined;
  }

  async #listSomewhere(signal: AbortSignal): Promise<ToolList> {
    const failures: string[] = [];
    const limit = LIST_MILLISECONDS * LIST_SHARE;
    for (const replica of this.#candidates()) {
      if (replica.state(Date.now()) === "half-open") replica.startTrial(Date.now(), limit);
      try {
        const list = await this.#attempt(replica, signal, limit, (bounds) => listTools(replica, bounds));
        return await onlyAccepted(list, this.options.pins);
      } catch (thrown) {
        if (!(thrown instanceof UpstreamFailure)) throw thrown;
        failures.push(`replica ${replica.index} (${replica.host}) ${thrown.message}`);
      }
    }
    throw new Error(failures.length === 0 ? this.#down() : failures.join("; "));
  }

  /** What a replica answered with an error of JSON-RPC: maybe the tool is gone, which a new list shows. */
  async #answered(tool: Tool, failure: UpstreamFailure): Promise<Error> {
    const maybeGone = failure.code === INVALID_PARAMS || failure.code === METHOD_NOT_FOUND;
    if (maybeGone) await this.refreshNow();
    if (maybeGone && this.list?.tools.has(tool.name) === false) {
      return new Error(`upstream ${quote(this.name)} has no tool ${quote(tool.name)} any more: list the tools again`);
    }
    const code = failure.code === undefined ? "" : ` (code ${failure.code})`;
    return new Error(`upstream ${quote(this.name)} answered with an error: ${failure.message}${code}`);
  }

  #failed(tool: Tool, failures: string[]): string {
    return `upstream ${quote(this.name)} did not answer the call of ${quote(tool.name)}: ${failures.join("; ")}`;
  }

  #down(): string {
    const now = Date.now();
    const next = Math.min(...this.replicas.map((replica) => replica.nextCheckAt));
    const seconds = Math.max(1, Math.ceil((next - now) / 1000));
    return `upstream ${quote(this.name)} is down, and is asked again in ${seconds} s: ${this.replicas.map((replica) => this.#told(replica)).join("; ")}`;
  }

  #told(replica: Replica): string {
    return `replica ${replica.index} (${replica.host}) ${replica.lastFailure?.message ?? "did not answer a check"}`;
  }
}

const DOUBT =
  "the call may have been carried out, and was not repeated, since the tool is not marked as read-only or idempotent";

const INVALID_PARAMS = -32602;
const METHOD_NOT_FOUND = -32601;

export function quote(text: string): string {
  return JSON.stringify(text);
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function listTools(replica: Replica, bounds: RequestOptions): Promise<ToolList> {
  const listed: unknown[] = [];
  let cursor: string | undefined;
  let bytes = LIST_BYTES;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const params = cursor === undefined ? {} : { cursor };
    const { tools, nextCursor } = readPage(await replica.connection.request("tools/list", params, { ...bounds, bytes }));
    listed.push(...tools);
    bytes = Math.max(0, bytes - JSON.stringify(tools).length);
    if (listed.length > MOST_TOOLS) throw new UpstreamFailure("invalid", `lists more than ${MOST_TOOLS} tools`);
    if (nextCursor === undefined) return readTools(listed);
    cursor = nextCursor;
  }
  throw new UpstreamFailure("invalid", `lists its tools in more than ${MOST_PAGES} pages`);
}

/** A result of `tools/call`; the runtime holds its blocks to the protocol. */
function readResult(result: unknown): CallToolResult {
  if (isObject(result) && result["resultType"] === "input_required") {
    // The replica works: it has a tool that cannot be used from here.
    throw new UpstreamFailure("error", "it asks for input of its client, which a routing server does not pass on");
  }
  const content = isObject(result) ? result["content"] : undefined;
  if (!Array.isArray(content) || !content.every((block) => isObject(block) && typeof block["type"] === "string")) {
    throw new UpstreamFailure("invalid", "answered with what is no result of a tool");
  }
  const { structuredContent, isError } = result as CallToolResult;
  return {
    content: content as CallToolResult["content"],
    ...(structuredContent !== undefined && { structuredContent }),
    ...(isError === true && { isError }),
  };
}
