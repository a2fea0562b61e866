import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A container that is this machine: its workspace and its temporary files are below `root`. */
export class FakeContainer {
  readonly root = mkdtempSync(join(tmpdir(), "metamcp-sandbox-"));
  readonly #workspace = join(this.root, "workspace");
  /** Runs before each command that the container is asked for, and may keep it from it. */
  before: (command: string) => Promise<void> = async () => {};

  async exec(command: string): Promise<{ exitCode: number; stdout: string; stderr: string }> {
    await this.before(command);
    const child = this.#start(command);
    const [stdout, stderr] = (["stdout", "stderr"] as const).map(async (name) => {
      let text = "";
      for await (const chunk of child[name].setEncoding("utf8")) text += String(chunk);
      return text;
    });
    const exitCode = await new Promise<number>((resolve) => child.once("close", (code) => resolve(code ?? 137)));
    return { exitCode, stdout: (await stdout)!.replaceAll(this.#workspace, "/workspace"), stderr: (await stderr)! };
  }

  async *execStream(command: string): AsyncGenerator<object> {
    await this.before(command);
    const child = this.#start(command);
    const exited = new Promise<number>((resolve) => child.once("close", (code) => resolve(code ?? 137)));
    for await (const line of createInterface({ input: child.stdout })) yield { type: "stdout", data: `${line}\n` };
    yield { type: "complete", exitCode: await exited };
  }

  #start(command: string) {
    const here = command.replaceAll("/tmp/", `${this.root}/`).replaceAll("/workspace", this.#workspace);
    return spawn("sh", ["-c", here], { stdio: ["ignore", "pipe", "pipe"] });
  }
}

/** The namespace of a spec is the container itself. */
export const getSandbox = (namespace: unknown) => namespace;
export const parseSSEStream = (stream: unknown) => stream;
