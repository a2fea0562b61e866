import { readArguments } from "./runtime/arguments.ts";
import type { Caller, Host } from "./runtime/call.ts";
import type { Extension, TemplateCall } from "./runtime/extension.ts";
import { granted, positionOf, type Remote } from "./runtime/object-call.ts";
import { isOpen, resultOf, type JobView } from "./job.ts";
import { optionsOf } from "./options.ts";
import type { JobSource, OrchestratorCalls } from "./orchestrator.ts";
import { readSubtasks } from "./plan.ts";

/** How long a step waits in line for a tool that has no free slot, and keeps others from its place. */
const BUSY_MILLISECONDS = 1000;
/** Between two looks at a job that is waited for, and how long one look may last. */
const LOOK_MILLISECONDS = 200;
const LONGEST_LOOK_MILLISECONDS = 10_000;

interface Written {
  subtasks?: unknown;
  input?: Record<string, unknown>;
  deadlineSeconds?: number;
  waitSeconds: number;
}

/** The template's own tools; `template.json` describes them. */
const tools: Extension["tools"] = {
  async run_job(written: Written, call) {
    const source = readJob(call.host, written);
    if ("problems" in source) throw new Error(source.problems.join("\n"));
    const view = granted(await orchestratorOf(call.host).create(source, written.deadlineSeconds));
    return waitFor(call, view.job.id, written.waitSeconds);
  },

  get_job: async ({ job, waitSeconds }: { job: string; waitSeconds: number }, call) => waitFor(call, job, waitSeconds),

  async list_jobs({ limit, cursor }: { limit: number; cursor?: string }, { host }) {
    const listed = await orchestratorOf(host).list(positionOf(cursor, Number.MAX_SAFE_INTEGER), limit + 1);
    const page = listed.slice(0, limit);
    const nextCursor = listed.length > limit && { nextCursor: String(page.at(-1)?.job.seq) };
    return { jobs: page.map(shown), ...nextCursor };
  },

  async list_subtasks({ job, limit, cursor }: { job: string; limit: number; cursor?: string }, { host }) {
    const { steps, next } = granted(await orchestratorOf(host).subtasks(job, positionOf(cursor, 0), limit));
    return {
      subtasks: steps.map((step) => {
        const { parameters, status, attempts } = step;
        return { ...resultOf(step), arguments: parameters, status, attempts };
      }),
      ...(next !== undefined && { nextCursor: String(next) }),
    };
  },

  cancel_job: async ({ job }: { job: string }, { host }) => shown(granted(await orchestratorOf(host).cancel(job))),
};

export const orchestration: Extension = {
  tools,
  around: ({ caller }, next) => next(isStep(caller) ? { waitMs: BUSY_MILLISECONDS } : {}),
};

/** What a tool of a step calls itself waits for nothing: it might wait for its caller. */
function isStep({ request, depth }: Caller): boolean {
  return request === undefined && depth === 1;
}

function readJob(host: Host, { subtasks, input }: Written): JobSource | { problems: string[] } {
  if ((subtasks === undefined) === (input === undefined)) return { problems: ["/: give either subtasks or input"] };
  if (input === undefined) return readSubtasks(host, subtasks);
  const { planner } = optionsOf(host);
  const tool = planner === undefined ? undefined : host.catalog.tools.get(planner);
  if (tool === undefined) return { problems: ["/input: this server has no planner (option planner); give subtasks"] };
  const { parameters, problem } = readArguments(tool, input);
  if (problem === undefined) return { input: parameters };
  return { problems: [`/input: the planner ${planner} does not take it: ${problem}`] };
}

/** Waits for the end of a job and tells how far it is; afterwards the job goes on by itself. */
async function waitFor({ host, context }: TemplateCall, id: string, seconds: number): Promise<object> {
  const until = Date.now() + seconds * 1000;
  for (;;) {
    const left = Math.max(0, until - Date.now());
    const view = granted(await orchestratorOf(host).watch(id, Math.min(left, LONGEST_LOOK_MILLISECONDS)));
    if (!isOpen(view.job) || left === 0 || context.signal.aborted) return shown(view);
    const { succeeded, failed, waiting, running } = view.progress;
    await context.progress(succeeded + failed, succeeded + failed + waiting + running, `${view.job.status}, ${failed} failed`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MILLISECONDS));
  }
}

function orchestratorOf(host: Host): Remote<OrchestratorCalls> {
  const namespace = host.bindings["METAMCP_ORCHESTRATOR"] as DurableObjectNamespace;
  return namespace.get(namespace.idFromName("orchestrator")) as never;
}

function shown({ job, progress, failures, steps }: JobView): object {
  const { id, status, created, ended, deadline, result, error } = job;
  const failed = failures.map((step) => ({ ...resultOf(step), attempts: step.attempts }));
  return {
    job: id,
    status,
    progress,
    createdAt: iso(created),
    deadlineAt: iso(deadline),
    ...(ended !== null && { endedAt: iso(ended) }),
    ...(result !== undefined && { result }),
    ...(steps !== undefined && { results: steps.map(resultOf) }),
    ...(error !== null && { error }),
    ...(failed.length > 0 && steps === undefined && { failures: failed }),
  };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
