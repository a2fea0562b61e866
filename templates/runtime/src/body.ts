import type { Environment } from "./environment.ts";
import { BodyFailure, describeThrown, type BodySource } from "./failure.ts";
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
}

/** One run of a body. */
export interface Run<Result> {
  /** The client's own signal. */
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
  const release = takeSlots(body);
  const cancellation = new AbortController();
  const ended = Promise.withResolvers<never>();
  const end = (reason: string) => {
    const failure = new BodyFailure(`${body.label} ${reason}`);
    // First the verdict, then the signal: a body that answers to it comes too late.
    ended.reject(failure);
    cancellation.abort(failure);
  };
  const onClientGone = () => end("was cancelled");
  const timer = setTimeout(() => end(`timed out after ${body.timeoutMs} ms`), body.timeoutMs);
  run.signal.addEventListener("abort", onClientGone, { once: true });
  if (run.signal.aborted) onClientGone();

  try {
    const contenders: Promise<Result | InputNeeded>[] = [attempt(body, run, cancellation.signal), ended.promise];
    if (run.inputNeeded !== undefined) contenders.push(run.inputNeeded);
    return await Promise.race(contenders);
  } finally {
    clearTimeout(timer);
    run.signal.removeEventListener("abort", onClientGone);
    release();
  }
}

async function attempt<Result>(body: BoundBody, run: Run<Result>, signal: AbortSignal): Promise<Result> {
  try {
    return await run.finish(await run.call(signal), signal);
  } catch (thrown) {
    if (BodyFailure.is(thrown)) throw thrown;
    throw new BodyFailure(describeThrown(thrown, body.source));
  }
}

function takeSlots(body: BoundBody): () => void {
  const taken: (() => void)[] = [];
  const release = () => taken.forEach((give) => give());
  for (const slots of body.slots) {
    const lease = slots.take(body.timeoutMs);
    if (lease === undefined) {
      release();
      throw new BodyFailure(`${body.label} is busy: ${slots.limit} calls are running already, try again`);
    }
    taken.push(() => slots.release(lease));
  }
  return release;
}
