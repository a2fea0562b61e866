import type { PackageSet } from "./build.ts";
import { folderPath } from "./paths.ts";
import { Problem } from "./problem.ts";
import type { Command } from "./sandbox.ts";

const ID = /^[a-z0-9][a-z0-9-]{7,62}$/;
const PACKAGE = /^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/;
const SPECIFIER = /^(@[\w.~-]+\/)?[\w~-][\w./~-]*$/;
const MAX_LINE_BYTES = 64 * 1024;
const MAX_TIMEOUT_MS = 3_600_000;
const MAX_PACKAGES = 200;

/** What a job is asked to do. */
export type JobInput =
  | { kind: "build"; packages: PackageSet }
  | { kind: "environment" }
  | { kind: "exec"; environment: string; command: Command }
  | { kind: "warm_up" };

/** Ids are chosen by clients, so that a start can be repeated; they are a sandbox's name, too. */
export function checkedId(id: string): string {
  if (ID.test(id)) return id;
  throw new Problem("config_invalid", `${JSON.stringify(id.slice(0, 80))} is no id`, "use 8 to 63 of a-z, 0-9 and -, such as a UUID");
}

/** Reads a job from JSON, or names everything that is wrong with it. */
export function jobInput(value: unknown): JobInput {
  const problems: string[] = [];
  const input = read(record(value), problems);
  if (problems.length === 0 && input !== undefined) return input;
  throw new Problem("config_invalid", `the job has problems: ${problems.join("; ")}`);
}

function read(job: Record<string, unknown>, problems: string[]): JobInput | undefined {
  switch (job["kind"]) {
    case "warm_up":
    case "environment":
      return { kind: job["kind"] };
    case "build":
      return { kind: "build", packages: packages(job, problems) };
    case "exec":
      return { kind: "exec", ...command(job, problems) };
    default:
      problems.push("kind is none of build, environment, exec, warm_up");
      return undefined;
  }
}

function packages(job: Record<string, unknown>, problems: string[]): PackageSet {
  const dependencies = Object.entries(record(job["dependencies"]));
  const imports = Array.isArray(job["imports"]) ? job["imports"] : [];
  if (dependencies.length === 0 || dependencies.length > MAX_PACKAGES) problems.push(`dependencies: 1 to ${MAX_PACKAGES}`);
  if (imports.length > MAX_PACKAGES) problems.push(`imports: at most ${MAX_PACKAGES}`);
  for (const [name, version] of dependencies) {
    const isVersion = typeof version === "string" && version.length <= 200 && version !== "";
    if (!PACKAGE.test(name) || name.length > 214) problems.push(`dependencies: ${JSON.stringify(name)} is no package's name`);
    if (!isVersion) problems.push(`dependencies: the version of ${JSON.stringify(name)} is no text of 1 to 200 characters`);
  }
  for (const specifier of imports) {
    const isSpecifier = typeof specifier === "string" && SPECIFIER.test(specifier) && !specifier.split("/").includes("..");
    if (!isSpecifier) problems.push(`imports: ${JSON.stringify(specifier)} names no package`);
  }
  return { dependencies: Object.fromEntries(dependencies) as Record<string, string>, imports: imports as string[] };
}

function command(job: Record<string, unknown>, problems: string[]): { environment: string; command: Command } {
  const { line, cwd = "", timeoutMs, env = {}, environment } = job;
  const isLine = typeof line === "string" && !line.includes("\0") && new TextEncoder().encode(line).length <= MAX_LINE_BYTES;
  if (!isLine) problems.push(`line: a text of at most ${MAX_LINE_BYTES} bytes without NUL`);
  const isTimeout = typeof timeoutMs === "number" && timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS;
  if (!isTimeout) problems.push(`timeoutMs: more than 0 and at most ${MAX_TIMEOUT_MS}`);
  if (typeof environment !== "string" || !ID.test(environment)) problems.push("environment: the id of one");
  const variables = Object.entries(record(env));
  for (const [name, text] of variables) {
    const isVariable = /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && typeof text === "string" && !text.includes("\0");
    if (!isVariable) problems.push(`env: ${JSON.stringify(name)} is no environment variable`);
  }
  const folder = typeof cwd === "string" ? folderPath(cwd) : "";
  return {
    environment: String(environment),
    command: { line: String(line), cwd: folder, timeoutMs: Number(timeoutMs), env: Object.fromEntries(variables) as Record<string, string> },
  };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
