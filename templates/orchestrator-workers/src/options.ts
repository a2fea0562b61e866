import type { Host } from "./runtime/call.ts";
import type { Reason } from "./job.ts";

/** The template's options, as `template.json` describes them. */
export interface Options {
  /** Empty: every tool but planner and aggregator. */
  workers: string[];
  planner?: string;
  aggregator?: string;
  concurrency: number;
  maxAttempts: number;
  retryOn: Reason[];
  retryDelayMs: number;
  maxSubtasks: number;
  maxJobs: number;
  jobSeconds: number;
}

export function optionsOf(host: Host): Options {
  return host.catalog.definition.options as unknown as Options;
}

/** The tools that sub-tasks may be given to. */
export function workersOf(host: Host): string[] {
  const { workers, planner, aggregator } = optionsOf(host);
  if (workers.length > 0) return workers;
  const own = [...host.catalog.tools.values()].filter(({ template }) => template === undefined);
  return own.map(({ definition }) => definition.name).filter((name) => name !== planner && name !== aggregator);
}
