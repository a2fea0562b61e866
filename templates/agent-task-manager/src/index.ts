import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import { createQueueClass } from "./queue.ts";
import type { Environment } from "./runtime/environment.ts";
import { createWorker } from "./runtime/handler.ts";
import { aroundCall, serveTasks } from "./tasks.ts";
import { tools } from "./tools.ts";

const worker = createWorker({ definition, bodies, firstBodyLine }, { tools, around: aroundCall, extendServer: serveTasks });

export default worker satisfies ExportedHandler<Environment>;

/** The Durable Object that keeps the tasks and runs them. */
export class TaskQueue extends createQueueClass(worker.host) {}

/** The Durable Objects of definitions that ask for sessions. */
export class McpSession extends worker.Session {}
export { McpSessionDirectory } from "./runtime/session-directory.ts";
