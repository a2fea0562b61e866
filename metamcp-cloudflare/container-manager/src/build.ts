import { Problem } from "./problem.ts";
import type { OutputListener, Sandbox } from "./sandbox.ts";
import { tail } from "./text.ts";

/** How long one step of a build may take. */
const STEP_MS = 300_000;
/** Lines of messages shown in an error. */
const ERROR_LINES = 12;
/** Beside the project's own files, if there are any. */
const FOLDER = "metamcp-build";
/** Puts lock file and bundled modules into one document. */
const PACK = `import { readFileSync, readdirSync, writeFileSync } from "node:fs";
const modules = {};
try {
  for (const entry of readdirSync("out", { recursive: true, withFileTypes: true })) {
    const path = entry.parentPath + "/" + entry.name;
    if (entry.isFile()) modules[path.slice("out/".length)] = readFileSync(path, "utf8");
  }
} catch (error) {
  if (error.code !== "ENOENT") throw error;
}
writeFileSync("artifact.json", JSON.stringify({ lockfile: readFileSync("package-lock.json", "utf8"), modules }));
`;

/** npm packages, and what is imported of them. */
export interface PackageSet {
  /** Version by name. */
  dependencies: Record<string, string>;
  /** Specifiers, such as `zod` or `lodash/fp`. */
  imports: string[];
}

/** What a build gives: a JSON document with the texts of `lockfile` and of `modules` by path. */
export async function build(
  sandbox: Sandbox,
  set: PackageSet,
  lockfile: string | undefined,
  listener: OutputListener,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const run = (what: string, argv: string[]) => step(sandbox, what, argv, listener, signal);
  const text = new TextEncoder();
  const project = { name: "server", private: true, type: "module", dependencies: set.dependencies };
  await sandbox.write(`${FOLDER}/package.json`, text.encode(JSON.stringify(project)));
  if (lockfile !== undefined) await sandbox.write(`${FOLDER}/package-lock.json`, text.encode(lockfile));
  await sandbox.write(`${FOLDER}/pack.mjs`, text.encode(PACK));

  const locked = lockfile === undefined ? [] : ["--prefer-offline"];
  await run("npm install", ["npm", "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", ...locked]);
  if (set.imports.length > 0) await run("bundle the packages", ["node", "/opt/metamcp/bundle.mjs", ...set.imports]);
  await run("pack the bundle", ["node", "pack.mjs"]);
  return sandbox.read(`${FOLDER}/artifact.json`);
}

async function step(
  sandbox: Sandbox,
  what: string,
  argv: string[],
  listener: OutputListener,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const line = argv.map((argument) => `'${argument.replaceAll("'", `'\\''`)}'`).join(" ");
  const output = await sandbox.run({ line, cwd: FOLDER, timeoutMs: STEP_MS, env: {} }, listener, signal);
  if (output.timedOut) {
    throw new Problem("timed_out", `${what}: it did not end within ${STEP_MS / 1000} s`, "check npm's registry");
  }
  if (output.exitCode !== 0) {
    const said = tail(output.stderr.trim() === "" ? output.stdout : output.stderr, ERROR_LINES);
    const help = output.exitCode === 137 ? "it may have run out of memory" : undefined;
    throw new Problem("build_failed", `could not ${what} (exit code ${output.exitCode}): ${said}`, help);
  }
}

/** Identifies what a build's outcome depends on: the versions asked for, and with `imports` the bundle too. */
export async function digest(dependencies: Record<string, string>, imports: string[] | undefined): Promise<string> {
  const sorted = Object.entries(dependencies).sort(([one], [other]) => (one < other ? -1 : 1));
  const text = JSON.stringify([sorted, imports === undefined ? null : [...imports].sort()]);
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
