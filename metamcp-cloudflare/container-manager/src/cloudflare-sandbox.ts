import { type ExecEvent, getSandbox, parseSSEStream } from "@cloudflare/sandbox";
import { Problem } from "./problem.ts";
import type { MyContainer } from "./my-container.ts";
import { type Command, MAX_FILE_BYTES, MAX_OUTPUT_BYTES, type Output, type OutputListener, type Sandbox } from "./sandbox.ts";
import { BoundedText } from "./text.ts";

const WORKSPACE = "/workspace";
/** Lies outside of the workspace; a container that was restarted has lost it, with everything else. */
const MARKER = "/tmp/metamcp-started";
const FILE_MS = 60_000;
/** Between two tries to stop a command. */
const STOP_PAUSE_MS = 1000;

/** Ends with 81 unless `$path` stays in the workspace when symbolic links are followed; `$target` has what it leads to. */
const RESOLVE = `target=$(realpath -m -- "$path") || exit 81
case $target in ${WORKSPACE} | ${WORKSPACE}/*) ;; *) exit 81 ;; esac`;
const CAN_READ = `[ -e "$path" ] || exit 82; [ -f "$path" ] || exit 83; [ $(stat -L -c %s -- "$path") -le ${MAX_FILE_BYTES} ] || exit 85`;
const CAN_WRITE = `[ ! -d "$path" ] || exit 83; mkdir -p -- "\${path%/*}"`;
const LIST = `[ -e "$path" ] || exit 82; [ -d "$path" ] || exit 84
cd -- "$path" && find . -mindepth 1 -maxdepth 1 \\( -type d -printf '%f/\\0' -o -printf '%f\\0' \\) | base64 -w0`;

/** A container of Cloudflare's. */
export class CloudflareSandbox implements Sandbox {
  readonly #container;
  readonly #id: string;

  constructor(namespace: DurableObjectNamespace<MyContainer>, id: string) {
    // Without a default session, commands and work on files do not wait for one another.
    this.#container = getSandbox(namespace, id, { enableDefaultSession: false, normalizeId: true });
    this.#id = id;
  }

  async start(): Promise<void> {
    await this.#shell(`touch ${MARKER}`, "start");
  }

  async run(command: Command, listener: OutputListener, signal: AbortSignal): Promise<Output> {
    const started = Date.now();
    const files = runFiles();
    let ended = false;
    const stop = () => void this.#stop(files, () => ended);
    signal.addEventListener("abort", stop, { once: true });
    try {
      return await this.#follow(command, files, listener, signal, started);
    } finally {
      ended = true;
      signal.removeEventListener("abort", stop);
    }
  }

  /** Tries until the container has heard of it, or the command has ended. */
  async #stop({ group, cancelled }: RunFiles, ended: () => boolean): Promise<void> {
    // The mark comes first: a command that did not write its group yet looks for it next.
    const script = `touch ${cancelled} && { [ ! -s ${group} ] || kill -s KILL -- -"$(cat ${group})"; }`;
    while (!ended()) {
      try {
        return void (await this.#shell(script, "stop"));
      } catch {
        await new Promise((resolve) => setTimeout(resolve, STOP_PAUSE_MS));
      }
    }
  }

  async #follow(
    command: Command,
    files: RunFiles,
    listener: OutputListener,
    signal: AbortSignal,
    started: number,
  ): Promise<Output> {
    const stdout = new BoundedText(MAX_OUTPUT_BYTES);
    const stderr = new BoundedText(MAX_OUTPUT_BYTES);
    let exitCode: number | undefined;
    // Apart from the command, whose exit code may be any.
    const check = `[ -e ${MARKER} ] || exit 86; [ -e "$path" ] || exit 82; [ -d "$path" ] || exit 84`;
    const folder = await this.#on(command.cwd, check, "enter");
    signal.throwIfAborted();
    const stream = await this.#container.execStream(wrapped(command, folder, files), { env: command.env });
    for await (const event of parseSSEStream<ExecEvent>(stream)) {
      if (event.type === "stdout" || event.type === "stderr") {
        (event.type === "stdout" ? stdout : stderr).add(event.data ?? "");
        listener(event.type, event.data ?? "");
      } else if (event.type === "complete") {
        exitCode = event.exitCode ?? 0;
      } else if (event.type === "error") {
        throw new Problem("unavailable", `the command did not run: ${event.error ?? "no reason given"}`);
      }
    }
    if (exitCode === undefined) throw new Problem("unavailable", "the container ended while the command ran");
    const ms = Date.now() - started;
    return { stdout: stdout.text, stderr: stderr.text, exitCode, ms, timedOut: exitCode === 137 && ms >= command.timeoutMs };
  }

  async write(path: string, content: Uint8Array): Promise<void> {
    const target = await this.#on(path, CAN_WRITE, "write");
    await this.#container.writeFile(target, toBase64(content), { encoding: "base64" });
  }

  async read(path: string): Promise<Uint8Array> {
    const target = await this.#on(path, CAN_READ, "read");
    const { content } = await this.#container.readFile(target, { encoding: "base64" });
    return fromBase64(content);
  }

  async list(path: string): Promise<string[]> {
    const listed = await this.#shell(`path=${quoted(absolute(path))}\n${RESOLVE}\n${LIST}`, "list", path);
    const names = new TextDecoder().decode(fromBase64(listed.trim()));
    return names.split("\0").filter((name) => name !== "").sort();
  }

  /** A symbolic link is removed itself, so what is checked is its folder. */
  async remove(path: string): Promise<void> {
    const whole = quoted(absolute(path));
    await this.#shell(`whole=${whole}\npath=\${whole%/*}\n${RESOLVE}\nrm -rf -- "$whole"`, "delete", path);
  }

  async destroy(): Promise<void> {
    await this.#container.destroy();
  }

  /** Checks a path in the container, and gives the place that its symbolic links lead to. */
  async #on(path: string, check: string, verb: string): Promise<string> {
    const script = `path=${quoted(absolute(path))}\n${RESOLVE}\n${check}\nprintf %s "$target"`;
    return this.#shell(script, verb, path);
  }

  async #shell(script: string, verb: string, path = ""): Promise<string> {
    const result = await this.#container.exec(`sh -c ${quoted(script)}`, { timeout: FILE_MS });
    if (result.exitCode === 86) throw ended(this.#id);
    if (result.exitCode !== 0) failFor(result.exitCode, verb, path, result.stderr);
    return result.stdout;
  }
}

/** What a command and its cancel know each other by, in the container. */
interface RunFiles {
  /** Has the number of the command's process group, from its start on. */
  group: string;
  /** Exists once the command is cancelled. */
  cancelled: string;
}

function runFiles(): RunFiles {
  const run = `/tmp/metamcp-${crypto.randomUUID()}`;
  return { group: `${run}.pid`, cancelled: `${run}.cancelled` };
}

/** `timeout` leads a process group of its own and kills all of it. A command that was cancelled does not begin. */
function wrapped({ line, timeoutMs }: Command, folder: string, { group, cancelled }: RunFiles): string {
  const seconds = (timeoutMs / 1000).toFixed(3);
  const begin = `cd -- ${quoted(folder)} && echo $$ >${group} && [ ! -e ${cancelled} ]`;
  const script = `${begin} && exec timeout --signal=KILL ${seconds} sh -c ${quoted(line)}`;
  return `setsid --wait sh -c ${quoted(script)}`;
}

function failFor(code: number, verb: string, path: string, said: string): never {
  const shown = JSON.stringify(path);
  if (code === 81) throw new Problem("permission_denied", `${shown} is not a path within the workspace`);
  if (code === 82) throw new Problem("not_found", `${shown} does not exist in the workspace`);
  if (code === 83) throw new Problem("conflict", `${shown} is no plain file`);
  if (code === 84) throw new Problem("conflict", `${shown} is no folder`);
  if (code === 85) throw new Problem("limit_exceeded", `${shown} is larger than ${MAX_FILE_BYTES >> 20} MiB`);
  throw new Problem("unavailable", `could not ${verb} ${shown}: ${said.trim().slice(-500)}`);
}

function ended(id: string): Problem {
  return new Problem("unavailable", `the container of environment ${id} has ended`, "create a new environment");
}

const absolute = (path: string) => (path === "" ? WORKSPACE : `${WORKSPACE}/${path}`);
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

function fromBase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "base64"));
}
