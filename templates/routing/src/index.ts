import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import type { Environment } from "./runtime/environment.ts";
import { createWorker } from "./runtime/handler.ts";
import { dynamicTools } from "./router.ts";
import { routeStatus } from "./status.ts";

const worker = createWorker({ definition, bodies, firstBodyLine }, { tools: { route_status: routeStatus }, dynamicTools });

export default worker satisfies ExportedHandler<Environment>;

/** The Durable Objects of definitions that ask for sessions. */
export class McpSession extends worker.Session {}
export { McpSessionDirectory } from "./runtime/session-directory.ts";
