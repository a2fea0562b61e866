import type { FailureKind } from "./runtime/failure.ts";

export type JobStatus = "planning" | "working" | "aggregating" | "completed" | "failed" | "cancelled";
export type StepStatus = "waiting" | "running" | "succeeded" | "failed" | "cancelled";
/** Planner and aggregator are steps of a job as sub-tasks are: queued, limited and tried again like them. */
export type StepKind = "plan" | "work" | "aggregate";

/**
 * Why a step failed: as any call does, or its process ended in the middle, the tool says so itself, or the server has
 * no such tool any more.
 */
export type Reason = FailureKind | "interrupted" | "reported" | "missing";

export interface Subtask {
  tool: string;
  arguments: Record<string, unknown>;
}

/** What came of a step. */
export type End = { ok: true; value: unknown } | { ok: false; reason: Reason; error: string };

export interface Job {
  seq: number;
  id: string;
  status: JobStatus;
  created: number;
  deadline: number;
  ended: number | null;
  result: unknown;
  error: string | null;
}

export interface Step {
  seq: number;
  job: number;
  kind: StepKind;
  /** Which of the job's sub-tasks it is, from 0. */
  position: number;
  tool: string;
  parameters: Record<string, unknown>;
  status: StepStatus;
  /** Runs that began. */
  attempts: number;
  end: End | undefined;
}

export type Progress = Record<StepStatus, number>;

/** A job as its client sees it. */
export interface JobView {
  job: Job;
  progress: Progress;
  /** Some of the sub-tasks that failed. */
  failures: Step[];
  /** All sub-tasks, where no aggregator tells what they gave and they are small. */
  steps: Step[] | undefined;
}

export function isOpen({ status }: Job): boolean {
  return status === "planning" || status === "working" || status === "aggregating";
}

/** A sub-task as aggregators and clients see it. */
export function resultOf({ position, tool, end }: Step): object {
  return { index: position, tool, ...end };
}
