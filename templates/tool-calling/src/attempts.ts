import { backoffMs } from "./runtime/backoff.ts";
import type { ToolDefinition } from "./runtime/definition.ts";
import type { Extension } from "./runtime/extension.ts";
import { BodyFailure, type FailureKind } from "./runtime/failure.ts";

/** How a tool is called: `defaults` and `tools` of the options. */
export interface CallPolicy {
  /** Runs in all, the first included. */
  attempts: number;
  attemptTimeoutMs?: number;
  /** The pause before the second run; it doubles with each further one. */
  backoffMs: number;
  /** How long a call may wait for one of the tool's slots. */
  waitMs: number;
  /** Whether a run that failed may have done half its work, and be run again all the same. */
  repeatable?: boolean;
}

const LONGEST_PAUSE_MS = 60_000;

/** What the tool did cannot be taken back, so only these are worth another run, and only where it may be repeated. */
const PASSING: ReadonlySet<FailureKind> = new Set(["threw", "timeout"]);

/**
 * Calls a tool by its policy: it may wait for a slot, and is run again after a failure that may pass. All of it ends
 * within the tool's own time limit.
 */
export function attempts(policyOf: (tool: string) => CallPolicy): Required<Extension>["around"] {
  return async ({ host, name, caller }, next) => {
    const { definition } = host.catalog.tools.get(name)!;
    const policy = policyOf(name);
    const { timeoutMs } = definition.limits;
    const until = Date.now() + timeoutMs;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const waitMs = Math.min(policy.waitMs, Math.max(0, until - Date.now()));
        return await next({ timeoutMs: policy.attemptTimeoutMs ?? timeoutMs, waitMs, until });
      } catch (error) {
        if (!BodyFailure.is(error)) throw error;
        const pause = backoffMs(attempt, policy.backoffMs, LONGEST_PAUSE_MS);
        // What was asked in a run that failed would be asked again.
        const again = PASSING.has(error.kind) && isRepeatable(policy, definition) && !caller.questions?.begun;
        if (!again || attempt === policy.attempts || Date.now() + pause >= until) throw told(error, attempt);
        await sleep(pause, caller.signal);
        if (caller.signal.aborted) throw told(error, attempt);
      }
    }
  };
}

function isRepeatable({ repeatable }: CallPolicy, { annotations = {} }: ToolDefinition): boolean {
  return repeatable ?? (annotations["readOnlyHint"] === true || annotations["idempotentHint"] === true);
}

function told(error: BodyFailure, attempts: number): BodyFailure {
  return attempts === 1 ? error : new BodyFailure(`${error.message} (tried ${attempts} times)`, error.kind);
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
