import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import type { Environment } from "../src/environment.ts";
import { createWorker } from "../src/handler.ts";
import { McpSessionDirectory as Directory } from "../src/session-directory.ts";

const worker = createWorker({ definition, bodies, firstBodyLine });

/** The class as templates export it, and what tests do to it. */
export class McpSession extends worker.Session {
  async ring(touched?: number): Promise<void> {
    if (touched !== undefined) await this.ctx.storage.put("touched", touched);
    await this.alarm();
  }
}

export class McpSessionDirectory extends Directory {
  fill(count: number, used: number): void {
    for (let n = 0; n < count; n += 1) this.ctx.storage.sql.exec("INSERT INTO session VALUES (?, ?)", `filler-${n}`, used);
  }

  age(id: string, used: number): void {
    this.ctx.storage.sql.exec("UPDATE session SET used = ? WHERE id = ?", used, id);
  }
}

/** `POST /session` and `POST /directory` call a method of an object: `{ id, method, parameters }`. */
export default {
  async fetch(request: Request, env: Environment): Promise<Response> {
    const path = new URL(request.url).pathname;
    if (path === "/mcp") return worker.fetch(request, env);
    const { id, method, parameters } = await request.json<{ id: string; method: string; parameters: unknown[] }>();
    const sessions = env["METAMCP_SESSIONS"] as DurableObjectNamespace;
    const directory = env["METAMCP_SESSION_DIRECTORY"] as DurableObjectNamespace;
    const object = path === "/session" ? sessions.get(sessions.idFromString(id)) : directory.get(directory.idFromName("directory"));
    await (object as any)[method](...parameters);
    return new Response();
  },
};
