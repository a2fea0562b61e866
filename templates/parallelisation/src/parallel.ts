import type { TemplateTool } from "./runtime/extension.ts";
import { fanOut, type CallEnd, type PlannedCall } from "./runtime/fan-out.ts";
import { vote } from "./vote.ts";

/** What all ends together are made into: all of them, the first that succeeded, or what most of them say. */
export type Aggregation = "collect" | "first" | "vote";

interface Parallel {
  concurrency?: number;
  aggregate: Aggregation;
}

interface OneTool extends Parallel {
  tool: string;
  inputs: Record<string, unknown>[];
}

interface OneInput extends Parallel {
  tools: string[];
  input: Record<string, unknown>;
}

/** One tool over many inputs. */
export function mapInputs(usualConcurrency: number): TemplateTool {
  return parallel<OneTool>(usualConcurrency, ({ tool, inputs }) => inputs.map((input) => ({ tool, arguments: input })));
}

/** Many tools over one input. */
export function fanOutInput(usualConcurrency: number): TemplateTool {
  return parallel<OneInput>(usualConcurrency, ({ tools, input }) => tools.map((tool) => ({ tool, arguments: input })));
}

function parallel<Given extends Parallel>(usual: number, plan: (given: Given) => PlannedCall[]): TemplateTool {
  return async (given: Given, call) => {
    const { aggregate, concurrency = usual } = given;
    let winner: CallEnd | undefined;
    const settles = (end: CallEnd) => {
      if (aggregate !== "first" || !end.ok) return false;
      // Another one may succeed before it is ended.
      winner ??= end;
      return true;
    };
    const ends = await fanOut(call, { calls: plan(given), concurrency, settles });
    const succeeded = ends.filter(({ ok }) => ok).length;
    const outcome = { succeeded, failed: ends.length - succeeded, ...aggregated(ends, aggregate, winner) };
    if (aggregate === "collect" || succeeded > 0) return outcome;
    // Nothing to choose from: whoever reads this has to see why.
    return { content: [{ type: "text", text: JSON.stringify(outcome) }], isError: true };
  };
}

function aggregated(ends: CallEnd[], aggregate: Aggregation, winner: CallEnd | undefined): object {
  if (aggregate === "collect") return { results: ends };
  // What was ended because there is a winner is no news.
  const failures = ends.filter((end) => !end.ok && (winner === undefined || end.reason !== "cancelled"));
  if (aggregate === "vote") return { ...vote(ends), results: failures };
  return { ...(winner?.ok && { winner: winner.index, value: winner.value }), results: failures };
}
