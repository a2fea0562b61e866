import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import { fanOutInput, mapInputs } from "./parallel.ts";
import type { Environment } from "./runtime/environment.ts";
import { createWorker } from "./runtime/handler.ts";

/** The template's options; defaults are filled in. */
interface Options {
  concurrency: number;
  timeoutMs: number;
}

const { concurrency, timeoutMs } = definition.options as Options;

const worker = createWorker(
  { definition, bodies, firstBodyLine },
  {
    tools: { map: mapInputs(concurrency), fan_out: fanOutInput(concurrency) },
    // A tool that runs in fewer places than there are calls side by side takes them one after the other.
    around: ({ caller }, next) => next(caller.aside ? { waitMs: timeoutMs } : {}),
  },
);

export default worker satisfies ExportedHandler<Environment>;

/** The Durable Objects of definitions that ask for sessions. */
export class McpSession extends worker.Session {}
export { McpSessionDirectory } from "./runtime/session-directory.ts";
