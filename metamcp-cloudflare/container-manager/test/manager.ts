import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { build } from "esbuild";
import workerd from "workerd";
import { type Bridge, startBridge } from "./bridge.ts";

export const KEY = "a-key-of-the-tests";

export interface Answer {
  status: number;
  body: any;
}

/** The Worker as it is deployed, in workerd, with a bridge instead of containers. */
export class Manager {
  readonly bridge: Bridge;
  readonly #folder: string;
  readonly #environments = new Set<string>();
  #url = "";
  #callerUrl = "";
  #stop: () => Promise<void> = async () => {};

  private constructor(bridge: Bridge, folder: string) {
    this.bridge = bridge;
    this.#folder = folder;
  }

  static async start(options: { key?: string | null; maxInstances?: number } = {}): Promise<Manager> {
    const folder = await mkdtemp(join(tmpdir(), "metamcp-manager-"));
    const bridge = await startBridge();
    await mkdir(join(folder, "state"));
    await build({
      entryPoints: ["src/index.ts"],
      outfile: join(folder, "index.js"),
      bundle: true,
      format: "esm",
      conditions: ["workerd", "worker", "browser"],
      external: ["cloudflare:*", "node:*"],
      logLevel: "warning",
    });
    await writeFile(join(folder, "config.capnp"), config(bridge.url, options.key === undefined ? KEY : options.key, options.maxInstances ?? 3));
    const manager = new Manager(bridge, folder);
    await manager.#run();
    return manager;
  }

  /** Ends workerd as a crash does, and starts it again over the same storage. */
  async restart(): Promise<void> {
    await this.#stop();
    await this.#run();
  }

  async stop(): Promise<void> {
    await this.#stop();
    await this.bridge.stop();
    await rm(this.#folder, { recursive: true });
  }

  async #run(): Promise<void> {
    const child = spawn(workerd.default, ["serve", "config.capnp", "--control-fd", "3"], {
      cwd: this.#folder,
      stdio: ["ignore", "inherit", "inherit", "pipe"],
    });
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    this.#stop = async () => {
      child.kill("SIGKILL");
      await exited;
    };
    for await (const line of createInterface({ input: child.stdio[3] as NodeJS.ReadableStream })) {
      const event = JSON.parse(line) as { event: string; socket?: string; port?: number };
      if (event.event !== "listen") continue;
      if (event.socket === "http") this.#url = `http://127.0.0.1:${event.port}`;
      else this.#callerUrl = `http://127.0.0.1:${event.port}`;
      if (this.#url !== "" && this.#callerUrl !== "") return;
    }
    throw new Error("workerd ended before it listened");
  }

  async call(method: string, path: string, body?: unknown, key: string | null = KEY): Promise<Answer> {
    const isRaw = body instanceof Uint8Array;
    const response = await fetch(`${this.#url}/v1/${path}`, {
      method,
      headers: key === null ? {} : { authorization: `Bearer ${key}` },
      body: body === undefined ? undefined : isRaw ? (body as BodyInit) : JSON.stringify(body),
    });
    const bytes = new Uint8Array(await response.arrayBuffer());
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return { status: response.status, body: isJson ? JSON.parse(new TextDecoder().decode(bytes)) : bytes };
  }

  /** Calls the RPC entry point from another Worker. */
  async rpc(method: string, ...parameters: unknown[]): Promise<any> {
    const response = await fetch(this.#callerUrl, { method: "POST", body: JSON.stringify({ method, parameters }) });
    return response.json();
  }

  async submit(id: string, job: { kind: string; [input: string]: unknown }): Promise<any> {
    if (job.kind === "environment") this.#environments.add(id);
    const { status, body } = await this.call("PUT", `jobs/${id}`, job);
    if (status !== 202) throw new Error(JSON.stringify(body));
    return body;
  }

  /** The status of a job that has ended. */
  async ended(id: string): Promise<any> {
    for (let tries = 0; tries < 5; tries++) {
      const { body } = await this.call("GET", `jobs/${id}?wait=25`);
      if (body.state !== "queued" && body.state !== "running") return body;
    }
    throw new Error(`job ${id} does not end`);
  }

  async environment(id: string): Promise<void> {
    await this.submit(id, { kind: "environment" });
    const { state, error } = await this.ended(id);
    if (state !== "done") throw new Error(JSON.stringify(error));
  }

  /** Gives back the places of a test's environments, whatever became of the test. */
  async clear(): Promise<void> {
    for (const id of this.#environments) {
      await this.call("DELETE", `jobs/${id}`);
      await this.call("DELETE", `environments/${id}`);
    }
    this.#environments.clear();
  }

  /** A job's log as one text, since how many writes a command's output comes in is left to the machine. */
  async logs(job: string, query = ""): Promise<{ text: string; next: number; state: string }> {
    const { body } = await this.call("GET", `jobs/${job}/logs?${query}`);
    return { ...body, text: body.entries.map(({ text }: { text: string }) => text).join("") };
  }

  async exec(environment: string, line: string, timeoutMs = 30_000): Promise<any> {
    const id = crypto.randomUUID();
    await this.submit(id, { kind: "exec", environment, line, timeoutMs });
    return this.ended(id);
  }
}

function config(bridge: string, key: string | null, maxInstances: number): string {
  const secret = key === null ? "" : `(name = "CONTAINER_MANAGER_KEY", text = ${JSON.stringify(key)}),`;
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "caller", worker = .caller),
    (name = "state", disk = (path = "state", writable = true)),
    (name = "internet", network = (allow = ["public", "private"])),
  ],
  sockets = [
    (name = "http", address = "127.0.0.1:0", http = (), service = "main"),
    (name = "caller", address = "127.0.0.1:0", http = (), service = "caller"),
  ],
);
const main :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [(name = "index.js", esModule = embed "index.js")],
  bindings = [
    ${secret}
    (name = "MAX_INSTANCES", json = "${maxInstances}"),
    (name = "SANDBOX_BRIDGE", text = ${JSON.stringify(bridge)}),
    (name = "MY_CONTAINER", durableObjectNamespace = "MyContainer"),
    (name = "JOBS", durableObjectNamespace = "JobQueue"),
  ],
  durableObjectNamespaces = [
    (className = "MyContainer", uniqueKey = "MyContainer", enableSql = true),
    (className = "JobQueue", uniqueKey = "JobQueue", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "state"),
);
const caller :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [(name = "index.js", esModule = "export default { async fetch(request, env) { const { method, parameters } = await request.json(); return Response.json(await env.MANAGER[method](...parameters)); } };")],
  bindings = [(name = "MANAGER", service = (name = "main", entrypoint = "ContainerManagerRPC"))],
);
`;
}
