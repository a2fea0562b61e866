import { WorkerEntrypoint } from "cloudflare:workers";
import type { Env } from "./env.ts";
import type { JobStatus } from "./job-queue.ts";
import { filePath, folderPath } from "./paths.ts";
import { detailsOf, Problem, type ProblemDetails } from "./problem.ts";
import type { Output } from "./sandbox.ts";

/** How long a call waits in line and for its work. */
const CALL_MS = 15 * 60_000;
const COMMAND_MS = 5 * 60_000;
/** wrangler is among the image's packages, in the root folder. */
const BUILD =
  "npm install --ignore-scripts --no-audit --no-fund && /node_modules/.bin/wrangler deploy --dry-run --outdir dist";

/** What a call gives: its values, or why there are none. */
export type Answer<T = object> = ({ success: true } & T) | { success: false; error: ProblemDetails };
type CommandAnswer = { success: boolean; output: string; exitCode: number } | { success: false; output: string; error: ProblemDetails };

/**
 * The Container Manager for other Workers of the account, by a service binding with this entry point.
 *
 * A binding is its authorization. Calls that take long go through the same queue as the HTTPS face.
 */
export class ContainerManagerRPC extends WorkerEntrypoint<Env> {
  /** An environment with an empty workspace, in which the packages of all templates are installed. */
  async createSDKEnvironment(
    serverId: string,
    serverName: string,
    template = "remote-mcp-authless",
  ): Promise<Answer<{ containerId: string }>> {
    return this.#answer(async () => {
      const id = crypto.randomUUID();
      const ended = await this.#job<{ containerId: string; templates: string[] }>(id, { kind: "environment" });
      if (!ended.templates.includes(template)) {
        await this.#call("DELETE", `environments/${id}`);
        throw new Problem("config_invalid", `template ${JSON.stringify(template)} is none of ${ended.templates.join(", ")}`);
      }
      console.log({ message: "environment created", serverId, serverName, template, containerId: id });
      return { containerId: ended.containerId };
    });
  }

  async executeInContainer(containerId: string, command: string): Promise<CommandAnswer> {
    try {
      const job = { kind: "exec", environment: containerId, line: command, timeoutMs: COMMAND_MS };
      const { stdout, stderr, exitCode, timedOut } = await this.#job<Output>(crypto.randomUUID(), job);
      return { success: exitCode === 0 && !timedOut, output: stdout + stderr, exitCode };
    } catch (error) {
      return { success: false, output: "", error: detailsOf(error) };
    }
  }

  async writeFile(containerId: string, path: string, content: string | Uint8Array): Promise<Answer> {
    return this.#answer(() => this.#file("PUT", containerId, "files", path, content));
  }

  /** A file as text; use `readBytes` for others. */
  async readFile(containerId: string, path: string): Promise<Answer<{ content: string }>> {
    return this.#answer(async () => ({ content: await (await this.#file("GET", containerId, "files", path)).text() }));
  }

  async readBytes(containerId: string, path: string): Promise<Answer<{ content: Uint8Array }>> {
    return this.#answer(async () => ({ content: await (await this.#file("GET", containerId, "files", path)).bytes() }));
  }

  async listFiles(containerId: string, path = ""): Promise<Answer<{ files: string[] }>> {
    return this.#answer(async () => ({ files: await (await this.#file("GET", containerId, "list", path)).json<string[]>() }));
  }

  async deleteFile(containerId: string, path: string): Promise<Answer> {
    return this.#answer(() => this.#file("DELETE", containerId, "files", path));
  }

  /** Installs the packages of the project in the workspace and bundles it, without deploying it. */
  async buildMCPServer(containerId: string): Promise<CommandAnswer> {
    return this.executeInContainer(containerId, BUILD);
  }

  async addToolToServer(_containerId: string, _tool: unknown): Promise<Answer> {
    return edited("tool");
  }

  async addResourceToServer(_containerId: string, _resource: unknown): Promise<Answer> {
    return edited("resource");
  }

  async addPromptToServer(_containerId: string, _prompt: unknown): Promise<Answer> {
    return edited("prompt");
  }

  async destroyEnvironment(containerId: string): Promise<Answer> {
    return this.#answer(() => this.#call("DELETE", `environments/${encodeURIComponent(containerId)}`));
  }

  /** Starts a container for the next environment or build, if there is a place for it. */
  async warmUp(): Promise<Answer> {
    return this.#answer(() => this.#job(crypto.randomUUID(), { kind: "warm_up" }));
  }

  async #answer<T extends object>(work: () => Promise<T | Response>): Promise<Answer<T>> {
    try {
      const value = await work();
      return { success: true, ...(value instanceof Response ? {} : value) } as Answer<T>;
    } catch (error) {
      return { success: false, error: detailsOf(error) };
    }
  }

  #file(method: string, id: string, face: "files" | "list", path: string, content?: string | Uint8Array): Promise<Response> {
    // Before it is part of a URL, where `..` would lead to the environment itself.
    const checked = face === "list" ? folderPath(path) : filePath(path);
    return this.#call(method, `environments/${encodeURIComponent(id)}/${face}/${encodeURIComponent(checked)}`, content);
  }

  /** Runs a job to its end and returns its result. */
  async #job<T>(id: string, job: object): Promise<T> {
    const deadline = Date.now() + CALL_MS;
    await this.#call("PUT", `jobs/${id}`, JSON.stringify(job));
    for (;;) {
      const status = await (await this.#call("GET", `jobs/${id}?wait=25`)).json<JobStatus>();
      if (status.state === "done") return status.result as T;
      if (status.error !== undefined) throw problem(status.error as ProblemDetails);
      if (status.state === "cancelled") throw new Problem("unavailable", "the job was cancelled");
      if (Date.now() > deadline) {
        await this.#call("DELETE", `jobs/${id}`);
        throw new Problem("timed_out", `the job did not end within ${CALL_MS / 1000} s`);
      }
    }
  }

  async #call(method: string, path: string, body?: string | Uint8Array): Promise<Response> {
    const queue = this.env.JOBS.getByName("main");
    const response = await queue.fetch(`https://container-manager/v1/${path}`, { method, body: body as BodyInit | undefined });
    if (response.ok) return response;
    const { error } = await response.json<{ error: ProblemDetails }>();
    throw problem(error);
  }
}

/** What cannot be done honestly here is not pretended. */
function edited(what: string): Answer {
  return {
    success: false,
    error: {
      kind: "unsupported",
      message: `a ${what} is added to a server's definition, from which its code is generated anew; no text is patched here`,
      help: `call add_${what} of Meta-MCP, or write the files of a newly generated project by writeFile`,
    },
  };
}

const problem = ({ kind, message, help }: ProblemDetails) => new Problem(kind, message, help);
