import { ProtocolError, type CallToolResult } from "@modelcontextprotocol/server";
import type { TemplateCall } from "./extension.ts";
import { BodyFailure, type FailureKind } from "./failure.ts";
import { mapPooled } from "./pool.ts";
import { textOf } from "./result.ts";
import { callAside } from "./tool.ts";

/** One of several calls that are made side by side within one. */
export interface PlannedCall {
  tool: string;
  arguments: Record<string, unknown>;
}

/** Why a call gave no value: it failed, the tool says so itself, there is no such tool, or there is no room for it. */
export type Reason = FailureKind | "tool_error" | "unknown_tool" | "too_large";

/** What became of a planned call. */
export type CallEnd = { index: number; tool: string } & (
  | { ok: true; value: unknown }
  | { ok: false; reason: Reason; error: string }
);

export interface FanOut {
  calls: readonly PlannedCall[];
  /** How many run at the same time. */
  concurrency: number;
  /** Whether this end settles the matter, so that all other calls can be ended. */
  settles?(end: CallEnd): boolean;
}

/** What is kept free of the time of a call that makes others, so that it can tell how far they came. */
const SPARE_MS = 1000;
const LONGEST_ERROR = 2000;
/** Room for an entry that says no more than that there was no room. */
const ENTRY_BYTES = 256;

/**
 * Makes calls side by side; each ends for itself, and all of them are told in their order. A little before the time
 * of the call that makes them is up they are ended, so that what is there is not lost.
 */
export async function fanOut(call: TemplateCall, { calls, concurrency, settles }: FanOut): Promise<CallEnd[]> {
  if (call.caller.aside) throw new Error("one of several calls that run side by side cannot make such calls itself");
  const { context, limits } = call;
  const room = new Room(limits.responseBytes, calls.length);
  const all = new AbortController();
  const spare = Math.min(SPARE_MS, limits.timeoutMs / 10);
  const timer = setTimeout(() => all.abort("the time for all calls was up"), limits.timeoutMs - spare);
  let done = 0;
  try {
    const signal = AbortSignal.any([context.signal, all.signal]);
    const ends = await mapPooled(calls, concurrency, signal, async (planned, index) => {
      const end = room.keep({ index, tool: planned.tool, ...(await outcomeOf(call, planned, all.signal)) });
      if (settles?.(end)) all.abort("another call had settled it");
      done += 1;
      await context.progress(done, calls.length, `${planned.tool}: ${end.ok ? "done" : end.reason}`);
      return end;
    });
    const notBegun = { ok: false, reason: "cancelled", error: `did not begin: ${all.signal.reason}` } as const;
    return ends.map((end, index) => end ?? { index, tool: calls[index]!.tool, ...notBegun });
  } finally {
    clearTimeout(timer);
  }
}

type Outcome = { ok: true; value: unknown } | { ok: false; reason: Reason; error: string };

async function outcomeOf(call: TemplateCall, planned: PlannedCall, signal: AbortSignal): Promise<Outcome> {
  const known = call.host.catalog.tools.get(planned.tool);
  if (known?.template !== undefined) return failed("unknown_tool", "it is a tool of the template: name one of the server's own");
  try {
    const result = await callAside(call, planned.tool, planned.arguments, signal);
    return result.isError ? failed("tool_error", textOf(result)) : { ok: true, value: valueOf(result) };
  } catch (error) {
    if (error instanceof ProtocolError) return failed("unknown_tool", error.message);
    if (!BodyFailure.is(error)) throw error;
    const ended = error.kind === "cancelled" && signal.aborted;
    return failed(error.kind, ended ? `was ended: ${signal.reason}` : error.message);
  }
}

function failed(reason: Reason, error: string): Outcome {
  return { ok: false, reason, error: error.length > LONGEST_ERROR ? `${error.slice(0, LONGEST_ERROR)}…` : error };
}

/** The shortest that says all: structured content, a single text, or else the blocks. */
function valueOf({ structuredContent, content }: CallToolResult): unknown {
  if (structuredContent !== undefined) return structuredContent;
  const [first, ...others] = content;
  return first?.type === "text" && others.length === 0 ? first.text : content;
}

/** How much of a result's size is left, when each entry may need a little of it. */
class Room {
  #left: number;

  constructor(
    readonly limit: number,
    entries: number,
  ) {
    this.#left = limit - ENTRY_BYTES * (entries + 1);
    if (this.#left < 0) throw new Error(`${entries} calls do not fit into a response of ${limit} bytes: make fewer at once`);
  }

  /** The entry, or what says that there is no room for it. */
  keep(end: CallEnd): CallEnd {
    const bytes = new TextEncoder().encode(JSON.stringify(end)).byteLength;
    const needed = Math.max(0, bytes - ENTRY_BYTES);
    if (needed <= this.#left) {
      this.#left -= needed;
      return end;
    }
    const error = `${bytes} bytes are more than is left of the ${this.limit} for all results`;
    return { index: end.index, tool: end.tool, ok: false, reason: "too_large", error };
  }
}
