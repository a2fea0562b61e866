import type { JobQueue } from "./job-queue.ts";
import type { MyContainer } from "./my-container.ts";

/** What the Worker is bound to. */
export interface Env {
  MY_CONTAINER: DurableObjectNamespace<MyContainer>;
  JOBS: DurableObjectNamespace<JobQueue>;
  /** The key of the HTTPS face; without it every request is refused. */
  CONTAINER_MANAGER_KEY?: string;
  /** How many containers may run at once: `max_instances` of wrangler.jsonc. */
  MAX_INSTANCES?: number | string;
  /** Where sandboxes are reached by HTTP instead of in containers: for development and tests. */
  SANDBOX_BRIDGE?: string;
}
