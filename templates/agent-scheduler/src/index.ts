import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import type { Environment } from "./runtime/environment.ts";
import { createWorker } from "./runtime/handler.ts";
import { createSchedulerClass } from "./scheduler.ts";
import { scheduler } from "./tools.ts";

const worker = createWorker({ definition, bodies, firstBodyLine }, scheduler);

export default worker satisfies ExportedHandler<Environment>;

/** Holds the schedules and calls their tools. */
export class Scheduler extends createSchedulerClass(worker.host) {}

/** The Durable Objects of definitions that ask for sessions. */
export class McpSession extends worker.Session {}
export { McpSessionDirectory } from "./runtime/session-directory.ts";
