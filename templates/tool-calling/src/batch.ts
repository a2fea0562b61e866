import type { TemplateTool } from "./runtime/extension.ts";
import { fanOut, type PlannedCall } from "./runtime/fan-out.ts";

interface Batch {
  calls: { tool: string; arguments?: PlannedCall["arguments"] }[];
  concurrency?: number;
}

/** Several calls at once: what each of them gave, failures beside results. */
export function batch(usualConcurrency: number): TemplateTool {
  return async ({ calls, concurrency = usualConcurrency }: Batch, call) => {
    const planned = calls.map(({ tool, arguments: given = {} }) => ({ tool, arguments: given }));
    const results = await fanOut(call, { calls: planned, concurrency });
    const succeeded = results.filter(({ ok }) => ok).length;
    return { succeeded, failed: results.length - succeeded, results };
  };
}
