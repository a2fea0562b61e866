import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import type { Environment } from "./runtime/environment.ts";
import { createWorker } from "./runtime/handler.ts";

export default createWorker({ definition, bodies, firstBodyLine }) satisfies ExportedHandler<Environment>;
