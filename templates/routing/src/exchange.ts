import { quoted, UpstreamFailure } from "./failure.ts";
import { wellFormedJson } from "./runtime/json.ts";
import { isObject } from "./runtime/schema.ts";
import { readEvents, readText, type Bounds } from "./stream.ts";

/** One JSON-RPC message that goes to a replica. */
export interface Outgoing {
  method: string;
  params: Record<string, unknown>;
  /** Absent for a notification. */
  id?: number;
}

/** What an answer holds beside its result. */
export interface Incoming {
  result: unknown;
  headers: Headers;
}

export type OnNotification = (method: string, params: Record<string, unknown>) => void;

/** Posts one message and reads its answer, which may be JSON or an event stream. */
export async function exchange(
  url: string,
  headers: Record<string, string>,
  message: Outgoing,
  bounds: Bounds,
  onNotification?: OnNotification,
): Promise<Incoming> {
  const response = await post(url, headers, message, bounds.signal);
  try {
    if (!response.ok) throw await statusFailure(response, message.id, bounds);
    if (message.id === undefined) return { result: undefined, headers: response.headers };
    const answer = await readAnswer(response, message.id, bounds, onNotification);
    return { result: resultOf(answer, response.status), headers: response.headers };
  } catch (thrown) {
    throw asFailure(thrown, bounds.signal);
  } finally {
    if (!response.bodyUsed) await response.body?.cancel().catch(() => {});
  }
}

async function post(url: string, headers: Record<string, string>, message: Outgoing, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", accept: "application/json, text/event-stream" },
      body: JSON.stringify({ jsonrpc: "2.0", ...message }),
      // A redirect could lead anywhere, with the secrets of this host.
      redirect: "manual",
      signal,
    });
  } catch (thrown) {
    throw asFailure(thrown, signal);
  }
}

/** A failure of the network, or of reading, in our words. */
function asFailure(thrown: unknown, signal: AbortSignal): UpstreamFailure {
  if (thrown instanceof UpstreamFailure) return thrown;
  if (signal.aborted) {
    const timedOut = signal.reason instanceof DOMException && signal.reason.name === "TimeoutError";
    return new UpstreamFailure("lost", timedOut ? "did not answer in time" : "was asked no further: the call was cancelled");
  }
  return new UpstreamFailure("lost", `broke the connection or does not listen: ${quoted(String((thrown as Error)?.message))}`);
}

/** What is enough of an answer that only says why there is none. */
const ERROR_BYTES = 64 * 1024;

/** HTTP statuses by which a server or what stands before it says that it did not take a request. */
const NOT_TAKEN = new Set([429, 503, 521, 523, 525, 526, 530]);

async function statusFailure(response: Response, id: number | undefined, bounds: Bounds): Promise<UpstreamFailure> {
  const { status } = response;
  if (status >= 300 && status < 400) {
    const place = URL.parse(response.headers.get("location") ?? "", response.url)?.host;
    const where = place === undefined ? "" : ` to ${quoted(place)}`;
    return new UpstreamFailure("refused", `redirects${where}: write the URL that it leads to`, { status });
  }
  if (status === 401 || status === 403) {
    return new UpstreamFailure("refused", `does not accept its credentials (HTTP ${status}): see the replica's \`headers\``, { status });
  }
  if (NOT_TAKEN.has(status)) return new UpstreamFailure("refused", `takes no requests now (HTTP ${status})`, { status });
  const error = await errorIn(response, id, bounds);
  const codes = { status, ...(error && { code: error.code }) };
  if (error !== undefined && (status === 400 || ABOUT_REQUEST.has(error.code))) return new UpstreamFailure("error", error.message, codes);
  // Gateways speak JSON-RPC too, and say so by their status that the server behind them is not there.
  const said = error === undefined ? "" : `: ${error.message}`;
  return new UpstreamFailure(status < 500 ? "refused" : "lost", `answered HTTP ${status}${said}`, codes);
}

/** Method not found and invalid parameters: whoever says so has read the request. */
const ABOUT_REQUEST = new Set([-32601, -32602]);

interface RpcError {
  code: number;
  message: string;
}

/** The error of JSON-RPC in an answer that is no success; `undefined` where there is none. */
async function errorIn(response: Response, id: number | undefined, { signal }: Bounds): Promise<RpcError | undefined> {
  if (response.body === null || !isJson(response)) return undefined;
  try {
    const answer: unknown = JSON.parse(await readText(response.body, { bytes: ERROR_BYTES, signal }));
    // Whoever could not read the request does not know its id.
    if (!isObject(answer) || (answer["id"] !== id && answer["id"] !== null && answer["id"] !== undefined)) return undefined;
    return rpcError(answer["error"]);
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    return undefined;
  }
}

function rpcError(error: unknown): RpcError | undefined {
  if (!isObject(error) || typeof error["message"] !== "string") return undefined;
  return { code: Number(error["code"]), message: quoted(error["message"]) };
}

function isJson(response: Response): boolean {
  return /^application\/json\b/i.test(response.headers.get("content-type") ?? "");
}

async function readAnswer(
  response: Response,
  id: number,
  bounds: Bounds,
  onNotification: OnNotification | undefined,
): Promise<Record<string, unknown>> {
  const { body } = response;
  if (body !== null && isJson(response)) {
    const answer = parse(await readText(body, bounds));
    if (answer["id"] !== id) throw new UpstreamFailure("invalid", "answered another request than the one it was sent");
    return answer;
  }
  const type = response.headers.get("content-type") ?? "nothing";
  if (body === null || !/^text\/event-stream\b/i.test(type)) {
    throw new UpstreamFailure("invalid", `answered with ${quoted(type)}, which is neither JSON nor an event stream`);
  }
  for await (const event of readEvents(body, bounds)) {
    const message = parse(event);
    if (message["method"] === undefined && message["id"] === id) return message;
    // Requests of the upstream are not answered: it was told that nothing can be asked here.
    if (message["id"] === undefined && typeof message["method"] === "string" && isObject(message["params"])) {
      onNotification?.(message["method"], message["params"]);
    }
  }
  throw new UpstreamFailure("lost", "ended its event stream without an answer");
}

function parse(text: string): Record<string, unknown> {
  let message: unknown;
  try {
    message = JSON.parse(wellFormedJson(text));
  } catch {
    throw new UpstreamFailure("invalid", "answered with what is not JSON");
  }
  if (!isObject(message)) throw new UpstreamFailure("invalid", "answered with what is no JSON-RPC message");
  return message;
}

function resultOf(answer: Record<string, unknown>, status: number): unknown {
  if (Object.hasOwn(answer, "result")) return answer["result"];
  const error = rpcError(answer["error"]);
  if (error === undefined) throw new UpstreamFailure("invalid", "answered with neither result nor error");
  throw new UpstreamFailure("error", error.message, { status, code: error.code });
}
