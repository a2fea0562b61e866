import type { Environment } from "./runtime/environment.ts";
import type { Status, TaskDetail, TaskSpec, TaskSummary } from "./task.ts";

/** A task, or why there is none. */
export type Enqueued = { task: TaskSummary; repeated: boolean; problem?: undefined } | { problem: string };

export interface PageRequest {
  statuses: Status[];
  tool: string | undefined;
  /** Tasks that were made before the one of this number. */
  before: number;
  limit: number;
}

export interface Page {
  tasks: TaskSummary[];
  /** Where the next page goes on; absent on the last. */
  before?: number;
}

export interface QueueState {
  /** Tasks by status. */
  counts: Record<string, number>;
  /** Tasks in all, those that ended too. */
  kept: number;
  maxTasks: number;
  concurrency: number;
}

/** The calls that the Worker makes. */
export interface QueueCalls {
  enqueue(spec: TaskSpec): Promise<Enqueued>;
  get(id: string): Promise<TaskDetail | undefined>;
  list(request: PageRequest): Promise<Page>;
  cancel(id: string, reason: string): Promise<TaskDetail | undefined>;
  retry(id: string): Promise<Enqueued | undefined>;
  answer(id: string, responses: Record<string, unknown>): Promise<boolean>;
  state(): Promise<QueueState>;
}

/** The name under which the generator binds the class: see `template.json`. */
const QUEUE = "METAMCP_TASK_QUEUE";

/** The one object that keeps the server's tasks. */
export function queueOf(bindings: Environment): QueueCalls {
  const namespace = bindings[QUEUE] as DurableObjectNamespace;
  return namespace.get(namespace.idFromName("queue")) as unknown as QueueCalls;
}
