import { join } from "node:path";
import { readFile } from "node:fs/promises";
import { request, type Answer } from "../../runtime/test/client.ts";
import { generateServer, type ServerInShort } from "../../runtime/test/generate.ts";
import { startServer, type RunningServer } from "../../runtime/test/workerd.ts";

const folder = join(process.cwd(), "routing");
const manifest = JSON.parse(await readFile(join(folder, "template.json"), "utf8"));

/** An upstream in short: what a test leaves out gets a value that does not matter. */
export interface UpstreamInShort {
  name: string;
  urls: string[];
  prefix?: string;
  tools?: string[];
  pins?: Record<string, string>;
  strategy?: string;
  timeoutMs?: number;
  headers?: Record<string, { secret: string; scheme?: string }>;
}

export interface RouterInShort extends ServerInShort {
  upstreams: UpstreamInShort[];
  refreshMs?: number;
  breaker?: { failures: number; openMs: number };
}

/** A routing server with a call or two that every test makes. */
export interface Router extends RunningServer {
  names(): Promise<string[]>;
  list(): Promise<any[]>;
  call(name: string, parameters?: object, more?: object): Promise<Answer>;
  /** The text of a call's result, after `error: ` where it is one. */
  text(name: string, parameters?: object): Promise<string>;
  /** The status of the first upstream. */
  status(parameters?: object): Promise<any>;
}

const LIMITS = { timeoutMs: 20_000, responseBytes: 64 * 1024, concurrency: 64 };

export async function startRouter(short: RouterInShort): Promise<Router> {
  const generated = generateServer(short);
  const options = {
    upstreams: short.upstreams.map(({ urls, headers = {}, ...upstream }) => ({
      strategy: "round-robin",
      timeoutMs: 5000,
      ...upstream,
      replicas: urls.map((url) => ({ url, headers })),
    })),
    refreshMs: short.refreshMs ?? 60_000,
    breaker: short.breaker ?? { failures: 3, openMs: 60_000 },
  };
  const own = (generated.definition as any).tools.map((tool: object) => ({ ...tool, limits: LIMITS }));
  const tools = [...own, ...manifest.tools.map((tool: object) => ({ ...tool, limits: LIMITS }))];
  const definition = { ...generated.definition, template: "routing", limits: LIMITS, options, tools };
  const server = await startServer(join(folder, "src", "index.ts"), { ...generated, definition, privateNetwork: true });

  const call = (name: string, parameters: object = {}, more: object = {}) =>
    request(server.url, "2026-07-28", "tools/call", { name, arguments: parameters, ...more });
  const list = async () => (await request(server.url, "2026-07-28", "tools/list")).result.tools;
  return {
    ...server,
    call,
    list,
    names: async () => (await list()).map(({ name }: { name: string }) => name),
    text: async (name, parameters) => {
      const { result, error } = await call(name, parameters);
      if (error !== undefined) return `protocol error: ${error.message}`;
      return `${result.isError ? "error: " : ""}${result.content[0].text}`;
    },
    status: async (parameters) => (await call("route_status", parameters)).result.structuredContent.upstreams[0],
  };
}

const PATIENCE = 30_000;

/** Waits until a state is there. */
export async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
