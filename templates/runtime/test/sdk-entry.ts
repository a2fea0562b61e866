import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import type { Environment } from "../src/environment.ts";
import { createWorker } from "../src/handler.ts";

/** A server whose every request is the SDK's: a template that adds to a server leaves no call to be answered beside it. */
const extension = { extendServer: () => {} };

export default createWorker({ definition, bodies, firstBodyLine }, extension) satisfies ExportedHandler<Environment>;
