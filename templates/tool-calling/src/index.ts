import { attempts, type CallPolicy } from "./attempts.ts";
import { batch } from "./batch.ts";
import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import type { Environment } from "./runtime/environment.ts";
import { createWorker } from "./runtime/handler.ts";

/** The template's options; defaults are filled in. */
interface Options {
  defaults: CallPolicy;
  tools: Record<string, Partial<CallPolicy>>;
  batchConcurrency: number;
}

const options = definition.options as unknown as Options;

const worker = createWorker(
  { definition, bodies, firstBodyLine },
  {
    tools: { batch: batch(options.batchConcurrency) },
    around: attempts((tool) => ({ ...options.defaults, ...options.tools[tool] })),
  },
);

export default worker satisfies ExportedHandler<Environment>;

/** The Durable Objects of definitions that ask for sessions. */
export class McpSession extends worker.Session {}
export { McpSessionDirectory } from "./runtime/session-directory.ts";
