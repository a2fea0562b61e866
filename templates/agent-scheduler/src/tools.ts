import { readArguments } from "./runtime/arguments.ts";
import { isAlone, type Host } from "./runtime/call.ts";
import type { Extension } from "./runtime/extension.ts";
import { exceedsBytes } from "./runtime/json.ts";
import { granted, positionOf, type Remote } from "./runtime/object-call.ts";
import { optionsOf } from "./options.ts";
import { missingTool, type ListedSchedule, type SchedulerCalls } from "./scheduler.ts";
import type { Run } from "./store.ts";
import { readTiming, writtenTiming, type WrittenTiming } from "./timing.ts";

/** A run that began later than this after its time is `late`. */
const LATE_MILLISECONDS = 1000;
const MOST_ARGUMENT_BYTES = 64 * 1024;

/** How long a run waits in line for a tool that has no free slot. */
const BUSY_MILLISECONDS = 60_000;

/** The template's own tools; `template.json` describes them. */
const tools: Extension["tools"] = {
  async create_schedule(parameters: WrittenTiming & { name: string; tool: string; arguments: object }, { host }) {
    const given = checkedArguments(host, parameters.tool, parameters.arguments);
    const created = Date.now();
    const timing = readTiming(parameters, optionsOf(host).leastEverySeconds, created);
    const problems = [...("problems" in given ? given.problems : []), ...("problems" in timing ? timing.problems : [])];
    if ("problems" in given || "problems" in timing) throw new Error(problems.join("\n"));
    const { name, tool } = parameters;
    return shown(host, granted(await schedulerOf(host).create({ name, tool, created, ...given, ...timing })));
  },

  async list_schedules({ limit, cursor }: { limit: number; cursor?: string }, { host }) {
    const listed = await schedulerOf(host).list(positionOf(cursor, 0), limit + 1);
    const page = listed.slice(0, limit);
    const nextCursor = listed.length > limit && { nextCursor: String(page.at(-1)?.schedule.id) };
    return { schedules: page.map((schedule) => shown(host, schedule)), ...nextCursor };
  },

  pause_schedule: async ({ name }: { name: string }, { host }) => shown(host, granted(await schedulerOf(host).pause(name))),
  resume_schedule: async ({ name }: { name: string }, { host }) => shown(host, granted(await schedulerOf(host).resume(name))),
  cancel_schedule: async ({ name }: { name: string }, { host }) => shown(host, granted(await schedulerOf(host).cancel(name))),
  run_schedule_now: async ({ name }: { name: string }, { host }) => shown(host, granted(await schedulerOf(host).runNow(name))),

  async list_runs({ name, limit, cursor }: { name: string; limit: number; cursor?: string }, { host }) {
    const runs = granted(await schedulerOf(host).history(name, positionOf(cursor, Number.MAX_SAFE_INTEGER), limit + 1));
    const page = runs.slice(0, limit);
    const nextCursor = runs.length > limit && { nextCursor: String(page.at(-1)?.id) };
    return { runs: page.map(shownRun), ...nextCursor };
  },
};

export const scheduler: Extension = {
  tools,
  around: ({ caller }, next) => next(isAlone(caller) ? { waitMs: BUSY_MILLISECONDS } : {}),
};

function schedulerOf(host: Host): Remote<SchedulerCalls> {
  const namespace = host.bindings["METAMCP_SCHEDULER"] as DurableObjectNamespace;
  return namespace.get(namespace.idFromName("scheduler")) as never;
}

/** The arguments with their defaults, as the tool takes them today. */
function checkedArguments(
  host: Host,
  name: string,
  given: object,
): { parameters: Record<string, unknown> } | { problems: string[] } {
  const tool = host.catalog.tools.get(name);
  if (tool === undefined || tool.template !== undefined) {
    const own = [...host.catalog.tools.values()].filter(({ template }) => template === undefined);
    const names = own.map(({ definition }) => definition.name).join(", ");
    return { problems: [`/tool: ${JSON.stringify(name)} is none of the tools that can be scheduled: ${names}`] };
  }
  const bytes = exceedsBytes(JSON.stringify(given), MOST_ARGUMENT_BYTES);
  if (bytes !== undefined) {
    return { problems: [`/arguments: has ${bytes} bytes, the limit is ${MOST_ARGUMENT_BYTES} bytes`] };
  }
  const { parameters, problem } = readArguments(tool, given);
  if (problem === undefined) return { parameters };
  return { problems: [`/arguments: tool ${name} does not take them: ${problem}`] };
}

function shown(host: Host, { schedule, lastRun }: ListedSchedule): object {
  const { name, tool, parameters, timing, status, created, next } = schedule;
  return {
    name,
    tool,
    arguments: parameters,
    ...writtenTiming(timing),
    status,
    createdAt: iso(created),
    nextRunAt: iso(next),
    lastRun: lastRun === undefined ? null : shownRun(lastRun),
    ...(!host.catalog.tools.has(tool) && { problem: `${missingTool(tool)}; its runs fail` }),
  };
}

function shownRun({ trigger, status, due, started, ended, passedOver, output }: Run): object {
  return {
    trigger,
    status,
    dueAt: iso(due),
    startedAt: iso(started),
    endedAt: iso(ended),
    late: started - due > LATE_MILLISECONDS,
    passedOver,
    output,
  };
}

function iso(time: number | null | undefined): string | null {
  return time === null || time === undefined ? null : new Date(time).toISOString();
}
