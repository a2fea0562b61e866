import {
  createRequestStateCodec,
  inputRequired,
  inputResponse,
  type ClientCapabilities,
  type InputRequiredResult,
  type RequestStateCodec,
} from "@modelcontextprotocol/server";
import type { RequestContext } from "./call.ts";
import { createCheck, isObject } from "./schema.ts";

/** A request that is embedded in an `input_required` result. */
export type EmbeddedRequest = ReturnType<
  typeof inputRequired.elicit | typeof inputRequired.createMessage | typeof inputRequired.listRoots
>;

/** What travels through the client between two rounds of one call. */
export interface RoundState {
  /** Ties the state to one call with one set of arguments. */
  call: string;
  /** The answers of earlier rounds. */
  answers: Record<string, unknown>;
}

export type StateCodec = RequestStateCodec<RoundState>;

/** Long enough for a person to answer. */
const STATE_SECONDS = 3600;

/** Without a key, one is drawn for this process: a call can then be continued only where it began. */
export function createStateCodec(key: Uint8Array | undefined): StateCodec {
  return createRequestStateCodec({
    key: key ?? crypto.getRandomValues(new Uint8Array(32)),
    ttlSeconds: STATE_SECONDS,
  });
}

/** The run of a body ended, because the client has to give something first. */
export class InputNeeded {
  constructor(readonly requests: Record<string, EmbeddedRequest>) {}
}

/** A question of a body. */
export interface Question {
  /** What kind of answer belongs to it. */
  kind: "elicit" | "sampling" | "roots";
  request: EmbeddedRequest;
  /** Its name among the call's questions; by default they are numbered. */
  key: string | undefined;
}

/** What questions without a key are called, before their number. */
const NAMES = { elicit: "elicit", sampling: "sample", roots: "roots" };

/**
 * The questions of one call. MCP 2026-07-28 has no way to ask in the middle of a
 * request: the result is `input_required`, and the client repeats the call with the
 * answers. So the body runs again from its start, and its n-th question gets the
 * n-th answer; a question without an answer never resolves, and the run ends.
 * An answer that does not fit its question counts for none, and is asked for again.
 */
export class Questions {
  readonly needed: Promise<InputNeeded>;
  /** The answers that the body was given: what the next round has to remember. */
  readonly given: Record<string, unknown> = {};
  readonly #asked = new Set<string>();
  readonly #open: Record<string, EmbeddedRequest> = {};
  #resolveNeeded!: (needed: InputNeeded) => void;

  constructor(
    /** What the client answered, in this round and the ones before. */
    readonly answers: Readonly<Record<string, unknown>>,
    /** What the client can be asked. */
    readonly capabilities: ClientCapabilities,
  ) {
    this.needed = new Promise((resolve) => (this.#resolveNeeded = resolve));
  }

  /** Whether anything was asked: a body that runs a second time within one round would ask it again. */
  get begun(): boolean {
    return this.#asked.size > 0;
  }

  ask(question: Question): Promise<unknown> {
    const key = question.key ?? `${NAMES[question.kind]}-${this.#asked.size + 1}`;
    if (this.#asked.has(key)) return Promise.reject(new Error(`two questions of one call have the key ${JSON.stringify(key)}`));
    this.#asked.add(key);
    const answer = Object.hasOwn(this.answers, key) ? this.answers[key] : undefined;
    if (fits(answer, question.request)) {
      this.given[key] = answer;
      return Promise.resolve(answer);
    }
    this.#open[key] = question.request;
    // After the current turn, so that questions asked side by side go out in one round.
    setTimeout(() => this.#resolveNeeded(new InputNeeded(this.#open)));
    return new Promise(() => {});
  }
}

/** What kind of answer belongs to a request. */
const KINDS: Record<EmbeddedRequest["method"], Question["kind"]> = {
  "elicitation/create": "elicit",
  "sampling/createMessage": "sampling",
  "roots/list": "roots",
};

/** Whether an answer is of the request's kind and, where a person filled in a form, of the form's schema. */
export function fits(answer: unknown, request: EmbeddedRequest): boolean {
  const kind = KINDS[request.method];
  const view = inputResponse({ answer } as never, "answer");
  if (view.kind !== kind) return false;
  const params: unknown = "params" in request ? request.params : undefined;
  if (view.kind !== "elicit" || view.action !== "accept" || !isObject(params)) return true;
  const schema = params["requestedSchema"];
  return !isObject(schema) || createCheck(schema)(view.content ?? {}) === undefined;
}

/** The answers that a request brings along: those of earlier rounds by its state, the new ones in the open. */
export async function answersOf(
  { mcpReq }: RequestContext,
  digest: () => Promise<string>,
): Promise<Record<string, unknown>> {
  const state = mcpReq.requestState<RoundState>();
  // The state of another call, or of other arguments, counts for nothing.
  const earlier = state !== undefined && state.call === (await digest()) ? state.answers : {};
  return { ...earlier, ...mcpReq.inputResponses };
}

export async function toInputRequired(
  needed: InputNeeded,
  codec: StateCodec,
  state: RoundState,
): Promise<InputRequiredResult> {
  return inputRequired({ inputRequests: needed.requests, requestState: await codec.mint(state) });
}

/** A digest of what is called and with what. */
export async function callDigest(method: string, name: string, parameters: unknown): Promise<string> {
  const text = JSON.stringify([method, name, parameters]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return btoa(String.fromCharCode(...new Uint8Array(digest)));
}
