import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import { createOrchestratorClass } from "./orchestrator.ts";
import type { Environment } from "./runtime/environment.ts";
import { createWorker } from "./runtime/handler.ts";
import { orchestration } from "./tools.ts";

const worker = createWorker({ definition, bodies, firstBodyLine }, orchestration);

export default worker satisfies ExportedHandler<Environment>;

/** Holds the jobs and works on them. */
export class Orchestrator extends createOrchestratorClass(worker.host) {}

/** The Durable Objects of definitions that ask for sessions. */
export class McpSession extends worker.Session {}
export { McpSessionDirectory } from "./runtime/session-directory.ts";
