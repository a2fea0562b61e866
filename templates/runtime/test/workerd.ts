import { spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { build } from "esbuild";
import workerd from "workerd";

/** A server as the generator writes it: file names below `src/`, and their text. */
export interface GeneratedServer {
  definition: object;
  bodiesIndex: string;
  /** By module name, without `.js`. */
  bodies: Record<string, string>;
  /** Text bindings. */
  environment?: Record<string, string>;
  /** Classes of Durable Objects, by binding. */
  durableObjects?: Record<string, string>;
  /** Lets it reach servers of the test, which stand at private addresses. */
  privateNetwork?: boolean;
}

export interface RunningServer {
  url: string;
  stop(): Promise<void>;
}

/** The entry of a template, bundled as a target bundles it: what differs between servers stays imported. */
export async function bundleRuntime(entry: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    format: "esm",
    conditions: ["workerd", "worker", "browser"],
    external: ["./bodies.js", "./definition.json", "cloudflare:*", "node:*"],
    minify: true,
    logLevel: "warning",
  });
}

/** Starts workerd with a generated server, on a port of its choice. `logged` takes what it logs, line by line. */
export async function startServer(
  entry: string,
  server: GeneratedServer,
  logged: (line: string) => void = console.log,
): Promise<RunningServer> {
  const folder = await mkdtemp(join(tmpdir(), "metamcp-runtime-"));
  await mkdir(join(folder, "bodies"));
  await mkdir(join(folder, "state"));
  await bundleRuntime(entry, join(folder, "runtime.js"));
  await writeFile(join(folder, "definition.json"), JSON.stringify(server.definition));
  await writeFile(join(folder, "bodies.js"), server.bodiesIndex);
  for (const [name, text] of Object.entries(server.bodies)) await writeFile(join(folder, "bodies", `${name}.js`), text);
  await writeFile(join(folder, "config.capnp"), configText(server));

  const child = spawn(workerd.default, ["serve", "config.capnp", "--control-fd", "3"], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  for (const output of [child.stdout, child.stderr]) createInterface({ input: output }).on("line", logged);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async () => {
    child.kill();
    await exited;
    await rm(folder, { recursive: true });
  };

  for await (const line of createInterface({ input: child.stdio[3] as NodeJS.ReadableStream })) {
    const event = JSON.parse(line) as { event: string; port?: number };
    if (event.event === "listen") return { url: `http://127.0.0.1:${event.port}`, stop };
  }
  await rm(folder, { recursive: true });
  throw new Error("workerd ended before it listened");
}

function configText(server: GeneratedServer): string {
  const objects = Object.entries(server.durableObjects ?? {});
  const namespaces = objects.map(([, name]) => `(className = "${name}", uniqueKey = "${name}", enableSql = true)`);
  const modules = [
    `(name = "runtime.js", esModule = embed "runtime.js")`,
    `(name = "bodies.js", esModule = embed "bodies.js")`,
    `(name = "definition.json", json = embed "definition.json")`,
    ...Object.keys(server.bodies).map((name) => `(name = "bodies/${name}.js", esModule = embed "bodies/${name}.js")`),
  ];
  const bindings = [
    ...Object.entries(server.environment ?? {}).map(
      ([name, text]) => `(name = ${JSON.stringify(name)}, text = ${JSON.stringify(text)})`,
    ),
    ...objects.map(([binding, name]) => `(name = "${binding}", durableObjectNamespace = "${name}")`),
  ];
  const state = `(name = "state", disk = (path = "state", writable = true))`;
  const network = `(name = "internet", network = (allow = ["public", "private"]))`;
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), ${server.privateNetwork ? `${state}, ${network}` : state}],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [${modules.join(", ")}],
  bindings = [${bindings.join(", ")}],
  durableObjectNamespaces = [${namespaces.join(", ")}],
  durableObjectStorage = (localDisk = "state"),
);
`;
}
