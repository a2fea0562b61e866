/**
 * The Container Manager: builds servers with npm packages, and lends environments, in Cloudflare's containers.
 *
 * Two faces over one queue: HTTPS with a bearer key, for Meta-MCP, and `ContainerManagerRPC`, for Workers of the account.
 */
import { authenticate } from "./auth.ts";
import type { Env } from "./env.ts";
import { problemResponse } from "./problem.ts";

export { JobQueue } from "./job-queue.ts";
export { MyContainer } from "./my-container.ts";
export { ContainerManagerRPC } from "./rpc.ts";

export default {
  async fetch(request, env) {
    try {
      await authenticate(request, env.CONTAINER_MANAGER_KEY);
    } catch (error) {
      return problemResponse(error);
    }
    return env.JOBS.getByName("main").fetch(request);
  },
} satisfies ExportedHandler<Env>;
