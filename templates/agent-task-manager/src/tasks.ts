import {
  CLIENT_CAPABILITIES_META_KEY,
  fromJsonSchema,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  type CallToolResult,
  type ClientCapabilities,
  type Server,
  type ServerContext,
  type Transport,
} from "@modelcontextprotocol/server";
import type { Era, Host, RequestContext } from "./runtime/call.ts";
import type { ToolCall, ToolOutcome } from "./runtime/extension.ts";
import { exceedsBytes } from "./runtime/json.ts";
import { optionsOf } from "./attempt.ts";
import { queueOf } from "./queue-binding.ts";
import type { Status, TaskDetail, TaskSpec, TaskSummary } from "./task.ts";

/** The tasks extension of MCP 2026-07-28, SEP-2663: https://modelcontextprotocol.io/seps/2663-tasks-extension. */
const EXTENSION = "io.modelcontextprotocol/tasks";

/** How often a client should look. */
const POLL_MS = 1000;

/** Where a task stands, in the extension's words. */
const STATUS: Record<Status, "working" | "input_required" | "completed" | "failed" | "cancelled"> = {
  waiting: "working",
  ready: "working",
  running: "working",
  blocked: "working",
  input_required: "input_required",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
};

/** Makes tasks of the calls for which the definition says so, where the client knows tasks. */
export async function aroundCall(call: ToolCall, next: () => Promise<ToolOutcome>): Promise<ToolOutcome> {
  const { host, caller, name } = call;
  const option = optionsOf(host).tasks;
  const support = Object.hasOwn(option, name) ? option[name] : undefined;
  // What a body or the queue itself calls is part of a call already.
  if (support === undefined || caller.request === undefined || caller.depth > 0) return next();
  const capabilities = capabilitiesOf(caller.request);
  if (!knowsTasks(capabilities)) {
    if (support.required) throw tasksNeeded(`tool ${name} can only be called as a task`);
    return next();
  }
  const answers = caller.questions?.answers ?? {};
  // The body asks before its work begins; with the answers the call becomes a task.
  if (support.askFirst && Object.keys(answers).length === 0) return next();
  return created(host, specOf(call, capabilities, answers));
}

function specOf({ host, name, parameters }: ToolCall, capabilities: ClientCapabilities, answers: object): TaskSpec {
  const { maxArgumentBytes, maxAttempts, retryOn, retryDelayMs, ttlMs } = optionsOf(host);
  const bytes = exceedsBytes(JSON.stringify([parameters, answers, capabilities]), maxArgumentBytes);
  if (bytes !== undefined) {
    const message = `arguments, answers and capabilities have ${bytes} bytes, a task takes ${maxArgumentBytes} (option maxArgumentBytes)`;
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, message);
  }
  return {
    tool: name,
    arguments: parameters,
    priority: 0,
    delayMs: 0,
    dependsOn: [],
    settings: { maxAttempts, retryOn, retryDelayMs, ttlMs, onDependencyFailure: "cancel" },
    client: { capabilities, answers: { ...answers }, open: {} },
  };
}

async function created(host: Host, spec: TaskSpec): Promise<ToolOutcome> {
  const enqueued = await queueOf(host.bindings).enqueue(spec);
  if (enqueued.problem !== undefined) throw new ProtocolError(ProtocolErrorCode.InternalError, enqueued.problem);
  // The SDK takes whatever a call answers for a tool's result, and wants content.
  return { resultType: "task", ...handle(enqueued.task), content: [] };
}

/** Registers the extension's methods. Revisions before 2026-07-28 know other methods of the same names. */
export function serveTasks(server: Server, host: Host, era: Era): void {
  if (era !== "modern") return;
  server.registerCapabilities({ extensions: { [EXTENSION]: {} } });
  const queue = () => queueOf(host.bindings);

  server.setRequestHandler("tasks/get", { params: BY_ID }, async ({ taskId }, context) => {
    demandTasks(context);
    return detailed(existing(taskId, await queue().get(taskId)));
  });
  server.setRequestHandler("tasks/update", { params: BY_ID }, async ({ taskId }, context) => {
    demandTasks(context);
    // The SDK takes the answers out of the parameters, whatever the method.
    const { inputResponses } = context.mcpReq;
    if (inputResponses === undefined) throw new ProtocolError(ProtocolErrorCode.InvalidParams, "inputResponses is missing");
    existing(taskId, (await queue().answer(taskId, inputResponses)) || undefined);
    return {};
  });
  server.setRequestHandler("tasks/cancel", { params: BY_ID }, async ({ taskId }, context) => {
    demandTasks(context);
    existing(taskId, await queue().cancel(taskId, "cancelled by its client"));
    return {};
  });
  dropContentOfTasks(server);
}

const BY_ID = fromJsonSchema<{ taskId: string }>({
  type: "object",
  properties: { taskId: { type: "string", maxLength: 128 } },
  required: ["taskId"],
});

/** A task handle is no tool's result: the content that the SDK wants of it is taken off where messages leave. */
function dropContentOfTasks(server: Server): void {
  const connect = server.connect.bind(server);
  server.connect = (transport: Transport) => {
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      if (!("result" in message) || message.result["resultType"] !== "task") return send(message, options);
      const { content, ...result } = message.result;
      return send({ ...message, result }, options);
    };
    return connect(transport);
  };
}

function capabilitiesOf({ mcpReq }: RequestContext): ClientCapabilities {
  const envelope: Record<string, unknown> | undefined = mcpReq.envelope;
  return (envelope?.[CLIENT_CAPABILITIES_META_KEY] as ClientCapabilities | undefined) ?? {};
}

function knowsTasks({ extensions }: ClientCapabilities): boolean {
  return extensions?.[EXTENSION] !== undefined;
}

function demandTasks(context: ServerContext): void {
  if (!knowsTasks(capabilitiesOf(context))) throw tasksNeeded(`the client does not declare the extension ${EXTENSION}`);
}

function tasksNeeded(message: string): MissingRequiredClientCapabilityError {
  return new MissingRequiredClientCapabilityError({ requiredCapabilities: { extensions: { [EXTENSION]: {} } } }, message);
}

function existing<Found>(id: string, found: Found | undefined): Found {
  if (found !== undefined) return found;
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Task not found, or its time is over: ${id}`);
}

/** The members that a task has wherever it is shown. */
function handle(task: TaskSummary, expiresAt?: string) {
  return {
    taskId: task.id,
    status: STATUS[task.status],
    ...(task.reason !== undefined && { statusMessage: task.reason }),
    createdAt: task.createdAt,
    lastUpdatedAt: task.updatedAt,
    // A task is kept for as long as it takes, and its result for a while.
    ttlMs: expiresAt === undefined ? null : Date.parse(expiresAt) - Date.parse(task.createdAt),
    pollIntervalMs: POLL_MS,
  };
}

/** A failed task is one whose call is an error of the protocol; a tool's own failure is a result like any other. */
function detailed(task: TaskDetail) {
  const shown = handle(task, task.expiresAt);
  if (task.status === "input_required") return { ...shown, inputRequests: task.questions ?? {} };
  const { result, error } = task;
  if (task.status === "failed" && error?.protocol !== undefined) return { ...shown, error: error.protocol };
  if (result === undefined) return shown;
  return { ...shown, status: "completed" as const, result: result satisfies CallToolResult };
}
