import type { Environment } from "./environment.ts";
import { BodyFailure, describeThrown, type BodySource, type FailureKind } from "./failure.ts";
import type { BodyContext } from "./context.ts";
import type { Slots } from "./concurrency.ts";
import type { InputNeeded } from "./input.ts";

export type ToolBody = (parameters: any, env: Environment, ctx: BodyContext) => unknown;
export type ResourceBody = (
  uri: string,
  variables: Record<string, string | string[]>,
  env: Environment,
  ctx: BodyContext,
) => unknown;
export type PromptBody = (parameters: Record<string, string>, env: Environment, ctx: BodyContext) => unknown;

/** A generated body module's function, of whatever kind. */
export type Body = (...parameters: any[]) => unknown;

/** A body with everything that bounds it. */
export interface BoundBody {
  /** How errors name it: `tool "add"`. */
  label: string;
  run: Body;
  source: BodySource;
  timeoutMs: number;
  responseBytes: number;
  slots: readonly Slots[];
  /** How long a call may wait for its slots, all in all; without it, a call that finds none free fails at once. */
  waitMs?: number;
  /** The moment at which the run has to have ended, waiting included. */
  until?: number;
}

/** One run of a body. */
export interface Run<Result> {
  /** The caller's own signal. */
  signal: AbortSignal;
  /** Resolves when the body waits for something only the client can give. */
  inputNeeded: Promise<InputNeeded> | undefined;
  /** Calls the body. */
  call(signal: AbortSignal): unknown;
  /** Turns what it returned into a result, still on the body's time. */
  finish(returned: unknown, signal: AbortSignal): Promise<Result>;
}

/**
 * Runs a body within its limits. Every failure is a `BodyFailure`; a body that
 * asks the client for something ends the run with `InputNeeded`.
 */
export async function runBody<Result>(body: BoundBody, run: Run<Result>): Promise<Result | InputNeeded> {
  const release = await takeSlots(body, run.signal);
  const cancellation = new AbortController();
  const work = attempt(body, run, cancellation.signal);
  try {
    // Nothing can come between its turns, and a timer costs more than most bodies that wait for nothing.
    return (await endsAtOnce(work)) ? await work : await withinLimits(body, run, work, cancellation);
  } finally {
    release();
  }
}

/** Turns of the microtask queue that a body has which waits for nothing outside. */
const TURNS = 32;

async function endsAtOnce(work: Promise<unknown>): Promise<boolean> {
  let ended = false;
  const end = () => {
    ended = true;
  };
  work.then(end, end);
  for (let turn = 0; turn < TURNS && !ended; turn++) await undefined;
  return ended;
}

async function withinLimits<Result>(
  body: BoundBody,
  run: Run<Result>,
  work: Promise<Result>,
  cancellation: AbortController,
): Promise<Result | InputNeeded> {
  const timeoutMs = Math.min(body.timeoutMs, Math.max(0, (body.until ?? Infinity) - Date.now()));
  const ended = Promise.withResolvers<never>();
  const end = (kind: FailureKind, reason: string) => {
    const failure = new BodyFailure(`${body.label} ${reason}`, kind);
    // First the verdict, then the signal: a body that answers to it comes too late.
    ended.reject(failure);
    cancellation.abort(failure);
  };
  const onCancelled = () => end("cancelled", "was cancelled");
  const timer = setTimeout(() => end("timeout", `timed out after ${timeoutMs} ms`), timeoutMs);
  run.signal.addEventListener("abort", onCancelled, { once: true });
  if (run.signal.aborted) onCancelled();

  try {
    const contenders: Promise<Result | InputNeeded>[] = [work, ended.promise];
    if (run.inputNeeded !== undefined) contenders.push(run.inputNeeded);
    return await Promise.race(contenders);
  } finally {
    clearTimeout(timer);
    run.signal.removeEventListener("abort", onCancelled);
  }
}

async function attempt<Result>(body: BoundBody, run: Run<Result>, signal: AbortSignal): Promise<Result> {
  try {
    return await run.finish(await run.call(signal), signal);
  } catch (thrown) {
    if (BodyFailure.is(thrown)) throw thrown;
    throw new BodyFailure(describeThrown(thrown, body.source), "threw");
  }
}

async function takeSlots(body: BoundBody, signal: AbortSignal): Promise<() => void> {
  const { waitMs = 0, until = Infinity } = body;
  const giveUp = Math.min(Date.now() + waitMs, until);
  const taken: (() => void)[] = [];
  const release = () => taken.forEach((give) => give());
  // A tool's own slots before the server's, so that who waits for the first keeps nobody from the second.
  for (const [index, slots] of body.slots.toReversed().entries()) {
    const leftMs = Math.max(0, giveUp - Date.now());
    const isLast = index === body.slots.length - 1;
    const lease = await slots.takeInTurn(body.timeoutMs + (isLast ? 0 : leftMs), leftMs, signal);
    if (lease === undefined) {
      release();
      throw signal.aborted ? new BodyFailure(`${body.label} was cancelled`, "cancelled") : busy(body, slots);
    }
    taken.push(() => slots.release(lease));
  }
  if (Date.now() >= until) {
    release();
    throw new BodyFailure(`${body.label} is busy: its time was over before it could begin, try again`, "busy");
  }
  return release;
}

function busy({ label, waitMs = 0 }: BoundBody, { limit }: Slots): BodyFailure {
  const waited = waitMs > 0 ? `, and there was no slot within ${waitMs} ms` : "";
  return new BodyFailure(`${label} is busy: ${limit} calls are running already${waited}, try again`, "busy");
}
