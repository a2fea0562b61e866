import { Problem } from "./problem.ts";

const MAX_PATH_BYTES = 1024;

/** The path of a file: relative, without `..`, and not the workspace itself. */
export function filePath(path: string): string {
  const trimmed = path.endsWith("/") ? path.slice(0, -1) : path;
  const isPlain = (part: string) => part !== "" && part !== "." && part !== "..";
  const isShort = new TextEncoder().encode(path).length <= MAX_PATH_BYTES;
  if (isShort && !path.includes("\0") && trimmed.split("/").every(isPlain)) return trimmed;
  throw new Problem(
    "permission_denied",
    `${JSON.stringify(path.slice(0, 200))} is not a path within the workspace`,
    'give a relative path without "..", which no symbolic link leads out of the workspace',
  );
}

/** The same for a folder, which may be the workspace itself: the empty path. */
export function folderPath(path: string): string {
  return path === "" || path === "." || path === "./" ? "" : filePath(path);
}
