import { BridgedSandbox } from "./bridged-sandbox.ts";
import { CloudflareSandbox } from "./cloudflare-sandbox.ts";
import type { Env } from "./env.ts";

/** Largest file that is read or written: base64 has to pass through one call of 32 MiB. */
export const MAX_FILE_BYTES = 16 * 1024 * 1024;
/** What is kept of a command's standard output, and of its standard error. */
export const MAX_OUTPUT_BYTES = 1024 * 1024;

/** A command line for `sh -c`. */
export interface Command {
  line: string;
  /** Folder relative to the workspace; empty for the workspace itself. */
  cwd: string;
  timeoutMs: number;
  env: Record<string, string>;
}

export interface Output {
  stdout: string;
  stderr: string;
  /** 128 + signal number if it was killed. */
  exitCode: number;
  ms: number;
  /** It was killed with its children when its time was over. */
  timedOut: boolean;
}

export type OutputListener = (stream: "stdout" | "stderr", text: string) => void;

/** An isolated place with a workspace folder. Paths are relative to that and were checked as text. */
export interface Sandbox {
  /** Starts it, if it does not run. */
  start(): Promise<void>;
  /** Runs a command; an abort kills it with its children, and then this rejects or returns what there was. */
  run(command: Command, listener: OutputListener, signal: AbortSignal): Promise<Output>;
  write(path: string, content: Uint8Array): Promise<void>;
  /** `not_found` if there is none, `limit_exceeded` if it is larger than `MAX_FILE_BYTES`. */
  read(path: string): Promise<Uint8Array>;
  /** Names in a folder, sorted; folders end with `/`. */
  list(path: string): Promise<string[]>;
  /** Removing an absent one succeeds. */
  remove(path: string): Promise<void>;
  /** Ends everything in it and forgets its files. Idempotent. */
  destroy(): Promise<void>;
}

/** The sandbox with an id: a container, or what stands for it where there are none. */
export function sandbox(env: Env, id: string): Sandbox {
  return env.SANDBOX_BRIDGE ? new BridgedSandbox(env.SANDBOX_BRIDGE, id) : new CloudflareSandbox(env.MY_CONTAINER, id);
}
