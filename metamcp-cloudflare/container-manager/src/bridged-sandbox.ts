import { Problem, type ProblemDetails } from "./problem.ts";
import type { Command, Output, OutputListener, Sandbox } from "./sandbox.ts";

/** Longest wait for anything but a command, which has its own limit. */
const CALL_MS = 120_000;

/** A line of the bridge's answer: what a command wrote, and at last its output, or why it has none. */
type Line = { stream: "stdout" | "stderr"; text: string } | { output: Output } | { error: ProblemDetails };

/** A sandbox that another process keeps, reached by HTTP: for development and tests, where there are no containers. */
export class BridgedSandbox implements Sandbox {
  readonly #base: string;

  constructor(bridge: string, id: string) {
    this.#base = `${bridge}/sandboxes/${id}`;
  }

  async start(): Promise<void> {
    await this.#call("PUT", "");
  }

  async run(command: Command, listener: OutputListener, signal: AbortSignal): Promise<Output> {
    // The bridge ends the command when the connection is given up.
    const limit = AbortSignal.any([signal, AbortSignal.timeout(command.timeoutMs + CALL_MS)]);
    const response = await this.#call("POST", "/run", JSON.stringify(command), limit);
    let output: Output | undefined;
    for await (const line of lines(response)) {
      const event = JSON.parse(line) as Line;
      if ("error" in event) throw new Problem(event.error.kind, event.error.message, event.error.help);
      if ("output" in event) output = event.output;
      else listener(event.stream, event.text);
    }
    if (output === undefined) throw new Problem("unavailable", "the bridge ended while the command ran");
    return output;
  }

  async write(path: string, content: Uint8Array): Promise<void> {
    await this.#call("PUT", file(path), content);
  }

  async read(path: string): Promise<Uint8Array> {
    return (await this.#call("GET", file(path))).bytes();
  }

  async list(path: string): Promise<string[]> {
    return (await this.#call("GET", `/list/${encoded(path)}`)).json();
  }

  async remove(path: string): Promise<void> {
    await this.#call("DELETE", file(path));
  }

  async destroy(): Promise<void> {
    await this.#call("DELETE", "");
  }

  async #call(method: string, path: string, body?: BodyInit, signal = AbortSignal.timeout(CALL_MS)): Promise<Response> {
    const response = await fetch(this.#base + path, { method, body, signal });
    if (response.ok) return response;
    const text = await response.text();
    let details: ProblemDetails = { kind: "unavailable", message: `the bridge answered ${response.status}: ${text}` };
    try {
      details = (JSON.parse(text) as { error: ProblemDetails }).error;
    } catch {
      // Its text is the message then.
    }
    throw new Problem(details.kind, details.message, details.help);
  }
}

const encoded = (path: string) => path.split("/").map(encodeURIComponent).join("/");
const file = (path: string) => `/files/${encoded(path)}`;

async function* lines(response: Response): AsyncGenerator<string> {
  let begun = "";
  for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const parts = (begun + text).split("\n");
    begun = parts.pop() ?? "";
    yield* parts;
  }
  if (begun !== "") yield begun;
}
