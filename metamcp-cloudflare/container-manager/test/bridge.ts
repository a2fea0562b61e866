import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Sandboxes as folders and processes of this machine: no isolation, but real commands. */
export interface Bridge {
  url: string;
  /** How many sandboxes there are, and how many there were at most at one time. */
  count(): number;
  most(): number;
  /** The next calls that destroy a sandbox fail, so many of them. */
  failDestroy(times: number): void;
  stop(): Promise<void>;
}

const MANIFEST = JSON.stringify({ node: "22.0.0", npm: "10.0.0", wrangler: "4.0.0", templates: ["remote-mcp-authless"] });

export async function startBridge(): Promise<Bridge> {
  const root = await mkdtemp(join(tmpdir(), "metamcp-bridge-"));
  const alive = new Set<string>();
  let most = 0;
  let failures = 0;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, , id = "", face = "", ...rest] = new URL(request.url ?? "/", "http://bridge").pathname.split("/");
    const folder = join(root, id);
    const path = join(folder, ...rest.map(decodeURIComponent));
    const route = `${request.method} ${face}`;
    if (route === "PUT ") {
      alive.add(id);
      most = Math.max(most, alive.size);
      await mkdir(folder, { recursive: true });
    } else if (route === "DELETE ") {
      if (failures > 0) {
        failures -= 1;
        throw Object.assign(new Error("no"), { kind: "unavailable" });
      }
      alive.delete(id);
      await rm(folder, { recursive: true, force: true });
    } else if (!alive.has(id)) {
      throw Object.assign(new Error(`sandbox ${id} does not run`), { kind: "unavailable" });
    } else if (route === "POST run") {
      const output = await run(folder, JSON.parse(String(await whole(request))), response);
      response.end(JSON.stringify({ output }));
      return;
    } else if (route === "PUT files") {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, await whole(request));
    } else if (route === "GET files") {
      response.end(await readFile(path));
      return;
    } else if (route === "DELETE files") {
      await rm(path, { recursive: true, force: true });
    } else if (route === "GET list") {
      const entries = await readdir(path, { withFileTypes: true });
      response.end(JSON.stringify(entries.map((entry) => entry.name + (entry.isDirectory() ? "/" : "")).sort()));
      return;
    }
    response.end();
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: { code?: string; kind?: string; message: string }) => {
      const kind = error.kind ?? (error.code === "ENOENT" ? "not_found" : "unexpected");
      response.statusCode = 500;
      response.end(JSON.stringify({ error: { kind, message: error.message } }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    count: () => alive.size,
    most: () => most,
    failDestroy: (times) => {
      failures = times;
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

interface Run {
  line: string;
  cwd: string;
  timeoutMs: number;
  env: Record<string, string>;
}

/** Runs a command in a process group, which ends when its time is over or the connection is given up. */
async function run(folder: string, command: Run, response: ServerResponse): Promise<object> {
  if (command.line === "cat /opt/metamcp/manifest.json") return { stdout: MANIFEST, stderr: "", exitCode: 0, ms: 1, timedOut: false };
  const started = Date.now();
  const child = spawn("sh", ["-c", command.line], {
    cwd: join(folder, command.cwd),
    env: { ...process.env, ...command.env },
    detached: true,
  });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    kill(child);
  }, command.timeoutMs);
  response.once("close", () => kill(child));
  const [stdout, stderr] = (["stdout", "stderr"] as const).map((stream) =>
    collect(child[stream], (text) => response.write(`${JSON.stringify({ stream, text })}\n`)),
  );
  const exitCode = await new Promise<number>((resolve) => child.once("close", (code) => resolve(code ?? 137)));
  clearTimeout(timer);
  return { stdout: await stdout, stderr: await stderr, exitCode, ms: Date.now() - started, timedOut };
}

function kill(child: ChildProcess): void {
  try {
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

async function collect(stream: NodeJS.ReadableStream, listener: (text: string) => void): Promise<string> {
  let text = "";
  for await (const chunk of stream.setEncoding("utf8")) {
    text += String(chunk);
    listener(String(chunk));
  }
  return text;
}

async function whole(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
