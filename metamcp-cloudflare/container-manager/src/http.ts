import { checkedId, jobInput } from "./input.ts";
import type { JobQueue } from "./job-queue.ts";
import { filePath, folderPath } from "./paths.ts";
import { Problem } from "./problem.ts";
import { MAX_FILE_BYTES } from "./sandbox.ts";

/** A job's description. */
const MAX_JSON_BYTES = 256 * 1024;
/** Longest time that one request waits for a job. */
const MAX_WAIT_MS = 25_000;

/** Serves a request that is allowed: the routes of the HTTPS face, which the README lists. */
export async function handle(request: Request, queue: JobQueue): Promise<Response> {
  const url = new URL(request.url);
  const [version, what = "", encodedId = "", part = "", ...rest] = url.pathname.split("/").slice(1);
  const id = decoded([encodedId]);
  const route = `${request.method} /${version}/${what}${id === "" ? "" : "/:id"}${part === "" ? "" : `/${part}`}`;
  switch (route) {
    case "GET /v1/health":
      return Response.json(queue.health());
    case "PUT /v1/jobs/:id":
      return Response.json(await queue.submit(checkedId(id), jobInput(await json(request))), { status: 202 });
    case "GET /v1/jobs/:id":
      return Response.json(await queue.wait(id, waitOf(url), url.searchParams.has("place") ? number(url, "place") : undefined));
    case "DELETE /v1/jobs/:id":
      return Response.json(queue.cancel(checkedId(id)));
    case "GET /v1/jobs/:id/logs":
      return Response.json(await queue.logs(id, number(url, "offset"), waitOf(url)));
    case "GET /v1/jobs/:id/artifact":
      return new Response(queue.artifact(id), { headers: { "content-type": "application/json" } });
    case "GET /v1/environments/:id":
      return Response.json(queue.info(id));
    case "DELETE /v1/environments/:id":
      await queue.destroy(id);
      return new Response(null, { status: 204 });
    case "GET /v1/environments/:id/list":
      return Response.json(await queue.files(id).list(folderPath(decoded(rest))));
    case "GET /v1/environments/:id/files":
      return new Response(await queue.files(id).read(filePath(decoded(rest))));
    case "PUT /v1/environments/:id/files":
      await queue.files(id).write(filePath(decoded(rest)), await body(request, MAX_FILE_BYTES));
      return new Response(null, { status: 204 });
    case "DELETE /v1/environments/:id/files":
      await queue.files(id).remove(filePath(decoded(rest)));
      return new Response(null, { status: 204 });
    default:
      throw new Problem("not_found", `there is no ${route}`, "see the README of the Container Manager");
  }
}

/** Percent-encoded parts of a path; an encoded slash would have moved it to another folder. */
function decoded(parts: string[]): string {
  try {
    return parts.map(decodeURIComponent).join("/");
  } catch {
    throw new Problem("config_invalid", "the path is not percent-encoded UTF-8");
  }
}

function number(url: URL, name: string): number {
  const value = Number(url.searchParams.get(name) ?? 0);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Problem("config_invalid", `${name} is no whole number from 0 on`);
}

const waitOf = (url: URL) => Math.min(number(url, "wait") * 1000, MAX_WAIT_MS);

async function json(request: Request): Promise<unknown> {
  const bytes = await body(request, MAX_JSON_BYTES);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch {
    throw new Problem("config_invalid", "the body is no JSON");
  }
}

/**
 * The whole body. One that is too large is still received, up to twice its limit: whoever has not sent all of it yet
 * finds a closed connection instead of the answer.
 */
async function body(request: Request, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > 2 * limit) break;
    if (size > limit) chunks.length = 0;
    else chunks.push(chunk);
  }
  if (size > limit) throw new Problem("limit_exceeded", `the body has more than ${limit} bytes`);
  return new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}
