import type { CallToolResult, ClientCapabilities } from "@modelcontextprotocol/server";
import type { FailureKind } from "./runtime/failure.ts";
import type { EmbeddedRequest } from "./runtime/input.ts";

/**
 * Where a task stands: it waits for the tasks it depends on, is ready to run (maybe not before a moment), runs, waits
 * for its client's answers, is kept back by a dependency that failed, or has ended.
 */
export type Status =
  | "waiting"
  | "ready"
  | "running"
  | "input_required"
  | "blocked"
  | "completed"
  | "failed"
  | "cancelled";

export const ENDED: readonly Status[] = ["completed", "failed", "cancelled"];

/**
 * Why an attempt failed: what `FailureKind` says, or the tool's own result is an error, the process ended in the
 * middle, the call is an error of the protocol, an argument refers to something that is not there, or no answer came.
 */
export type Cause = FailureKind | "reported" | "interrupted" | "protocol" | "reference" | "unanswered";

/** The `options` of a definition; the defaults are filled in. */
export interface QueueOptions {
  concurrency: number;
  maxTasks: number;
  maxArgumentBytes: number;
  maxResultBytes: number;
  maxAttempts: number;
  retryOn: Cause[];
  retryDelayMs: number;
  ttlMs: number;
  /** The tools whose calls become tasks, for clients that know the tasks extension. */
  tasks: Record<string, { required?: boolean; askFirst?: boolean }>;
}

/** What a task does when one that it depends on does not complete. */
export type OnDependencyFailure = "block" | "cancel";

/** What is kept of a task for as long as it exists. */
export interface Settings {
  maxAttempts: number;
  retryOn: Cause[];
  retryDelayMs: number;
  onDependencyFailure: OnDependencyFailure;
  ttlMs: number;
}

/** The client whose call became a task: what it can be asked, what it answered, what it is asked now. */
export interface TaskClient {
  capabilities: ClientCapabilities;
  answers: Record<string, unknown>;
  open: Record<string, EmbeddedRequest>;
}

/** A task to be. */
export interface TaskSpec {
  tool: string;
  arguments: Record<string, unknown>;
  priority: number;
  delayMs: number;
  dependsOn: string[];
  settings: Settings;
  idempotencyKey?: string;
  /** Present for a client's call that became a task. */
  client?: TaskClient;
}

/** A task as `list_tasks` shows it. */
export interface TaskSummary {
  id: string;
  tool: string;
  status: Status;
  priority: number;
  createdAt: string;
  updatedAt: string;
  /** Not before this moment; only while the task is ready. */
  dueAt?: string;
  endedAt?: string;
  attempts: number;
  maxAttempts: number;
  dependsOn: string[];
  /** Why it stands where it stands. */
  reason?: string;
}

export interface AttemptView {
  number: number;
  startedAt: string;
  endedAt?: string;
  /** `running`, `completed`, `input_required`, `cancelled`, or the cause of its failure. */
  outcome: string;
  message?: string;
}

export interface JsonRpcError {
  code: number;
  message: string;
  data?: unknown;
}

/** Why a task failed for good. */
export interface TaskError {
  cause: Cause;
  message: string;
  /** Present where the call itself was an error, and not its result. */
  protocol?: JsonRpcError;
}

export interface TaskDetail extends TaskSummary {
  arguments: Record<string, unknown>;
  history: AttemptView[];
  /** What the tool returned last; for a failed task this is a result with `isError`. */
  result?: CallToolResult;
  error?: TaskError;
  expiresAt?: string;
  /** What the client is asked. */
  questions?: Record<string, EmbeddedRequest>;
}

export interface Failure {
  kind: "failed";
  error: TaskError;
  result?: CallToolResult;
}

/** How one attempt went. */
export type Outcome =
  | { kind: "completed"; result: CallToolResult }
  | { kind: "asked"; requests: Record<string, EmbeddedRequest> }
  | Failure;
