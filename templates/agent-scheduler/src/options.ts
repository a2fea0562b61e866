import type { Host } from "./runtime/call.ts";

/** The template's options, as `template.json` describes them. */
export interface Options {
  maxSchedules: number;
  maxConcurrentRuns: number;
  keepRuns: number;
  leastEverySeconds: number;
}

export function optionsOf(host: Host): Options {
  return host.catalog.definition.options as unknown as Options;
}
