import { readArguments } from "./runtime/arguments.ts";
import type { Host } from "./runtime/call.ts";
import type { TemplateTool } from "./runtime/extension.ts";
import { exceedsBytes } from "./runtime/json.ts";
import { optionsOf } from "./attempt.ts";
import { queueOf, type Enqueued, type PageRequest } from "./queue-binding.ts";
import { referencesIn } from "./reference.ts";
import type { Cause, OnDependencyFailure, Status, TaskSpec } from "./task.ts";

/** The arguments of `enqueue_task`; its schema in `template.json` has the defaults that no option gives. */
interface EnqueueArguments {
  tool: string;
  arguments: Record<string, unknown>;
  priority: number;
  dependsOn: string[];
  onDependencyFailure: OnDependencyFailure;
  delayMs: number;
  maxAttempts?: number;
  retryOn?: Cause[];
  retryDelayMs?: number;
  ttlMs?: number;
  idempotencyKey?: string;
}

/** The template's own tools. */
export const tools: Record<string, TemplateTool> = {
  enqueue_task: async (given: EnqueueArguments, { host }) =>
    added(await queueOf(host.bindings).enqueue(specOf(host, given))),

  get_task: async ({ id }: { id: string }, { host }) => known(id, await queueOf(host.bindings).get(id)),

  list_tasks: async ({ status, tool, cursor, limit }: ListArguments, { host }) => {
    const { tasks, before } = await queueOf(host.bindings).list({ statuses: status, tool, before: place(cursor), limit });
    return { tasks, ...(before !== undefined && { nextCursor: String(before) }) };
  },

  cancel_task: async ({ id, reason }: { id: string; reason: string }, { host }) =>
    known(id, await queueOf(host.bindings).cancel(id, reason)),

  retry_task: async ({ id }: { id: string }, { host }) => added(known(id, await queueOf(host.bindings).retry(id))),

  queue_status: async (_: unknown, { host }) => queueOf(host.bindings).state(),
};

interface ListArguments {
  status: Status[];
  tool?: string;
  cursor?: string;
  limit: number;
}

/** A task for a call of one of the definition's tools. Throws what is wrong with it. */
function specOf(host: Host, given: EnqueueArguments): TaskSpec {
  const options = optionsOf(host);
  const { maxAttempts = options.maxAttempts, retryOn = options.retryOn, retryDelayMs = options.retryDelayMs } = given;
  const { ttlMs = options.ttlMs, onDependencyFailure, tool, priority, delayMs, idempotencyKey } = given;
  const references = referencesIn(given.arguments);
  return {
    tool,
    arguments: checked(host, tool, given.arguments, references.size > 0),
    priority,
    delayMs,
    dependsOn: [...new Set([...given.dependsOn, ...references])],
    settings: { maxAttempts, retryOn, retryDelayMs, onDependencyFailure, ttlMs },
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  };
}

/** The arguments with the defaults of the tool's schema. With references they can be checked only once these are known. */
function checked(host: Host, name: string, given: Record<string, unknown>, later: boolean): Record<string, unknown> {
  const tools = [...host.catalog.tools.values()].filter(({ template }) => template === undefined);
  const tool = tools.find(({ definition }) => definition.name === name);
  if (tool === undefined) {
    const names = tools.map(({ definition }) => definition.name).join(", ");
    throw new Error(`there is no tool ${JSON.stringify(name)} to enqueue; the server's own tools are: ${names}`);
  }
  const { maxArgumentBytes } = optionsOf(host);
  const bytes = exceedsBytes(JSON.stringify(given), maxArgumentBytes);
  if (bytes !== undefined) {
    throw new Error(`the arguments have ${bytes} bytes, the queue takes ${maxArgumentBytes} (option maxArgumentBytes)`);
  }
  if (later) return given;
  const { parameters, problem } = readArguments(tool, given);
  if (problem !== undefined) throw new Error(`the arguments are not what tool ${name} takes: ${problem}`);
  return parameters;
}

function added(enqueued: Enqueued): object {
  if (enqueued.problem !== undefined) throw new Error(enqueued.problem);
  return { ...enqueued.task, repeated: enqueued.repeated };
}

function known<Found>(id: string, found: Found | undefined): Found {
  if (found === undefined) throw new Error(`there is no task ${JSON.stringify(id)}, or its time is over`);
  return found;
}

function place(cursor: string | undefined): number {
  if (cursor === undefined) return Number.MAX_SAFE_INTEGER;
  if (!/^[1-9][0-9]{0,15}$/.test(cursor)) throw new Error("the cursor is not one that list_tasks gave");
  return Number(cursor);
}
