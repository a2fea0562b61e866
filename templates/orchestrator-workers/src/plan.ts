import { readArguments } from "./runtime/arguments.ts";
import type { Host } from "./runtime/call.ts";
import { exceedsBytes } from "./runtime/json.ts";
import { isObject } from "./runtime/schema.ts";
import type { Subtask } from "./job.ts";
import { optionsOf, workersOf } from "./options.ts";

const MOST_ARGUMENT_BYTES = 64 * 1024;
/** Enough to mend a plan by. */
const MOST_PROBLEMS = 20;

/** Sub-tasks that can be run, with their tools' defaults, or everything that is wrong with them. */
export function readSubtasks(host: Host, written: unknown): { subtasks: Subtask[] } | { problems: string[] } {
  const { maxSubtasks } = optionsOf(host);
  if (!Array.isArray(written)) return { problems: ["/subtasks: is no list of { tool, arguments }"] };
  if (written.length > maxSubtasks) {
    return { problems: [`/subtasks: has ${written.length} sub-tasks, the server takes ${maxSubtasks} (option maxSubtasks)`] };
  }
  const workers = new Set(workersOf(host));
  const read = written.map((subtask, index) => readSubtask(host, workers, subtask, `/subtasks/${index}`));
  const problems = read.filter((outcome) => typeof outcome === "string");
  if (problems.length === 0) return { subtasks: read as Subtask[] };
  const shown = problems.slice(0, MOST_PROBLEMS);
  return { problems: problems.length > shown.length ? [...shown, `and ${problems.length - shown.length} more`] : shown };
}

/** What a planner returned: the list, or an object that has it. */
export function readPlan(host: Host, returned: unknown): { subtasks: Subtask[] } | { problems: string[] } {
  return readSubtasks(host, isObject(returned) ? returned["subtasks"] : returned);
}

function readSubtask(host: Host, workers: ReadonlySet<string>, written: unknown, path: string): Subtask | string {
  if (!isObject(written)) return `${path}: is no { tool, arguments }`;
  const { tool: name, arguments: given = {} } = written;
  const tool = typeof name === "string" && workers.has(name) ? host.catalog.tools.get(name) : undefined;
  if (tool === undefined) return `${path}/tool: ${JSON.stringify(name)} is none of the workers: ${[...workers].join(", ")}`;
  if (!isObject(given)) return `${path}/arguments: is no object`;
  const { parameters, problem } = readArguments(tool, given);
  if (problem !== undefined) return `${path}/arguments: tool ${tool.definition.name} does not take them: ${problem}`;
  const bytes = exceedsBytes(JSON.stringify(parameters), MOST_ARGUMENT_BYTES);
  if (bytes !== undefined) return `${path}/arguments: has ${bytes} bytes, the limit is ${MOST_ARGUMENT_BYTES} bytes`;
  return { tool: tool.definition.name, arguments: parameters };
}
