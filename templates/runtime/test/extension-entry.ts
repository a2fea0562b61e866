import { bodies, firstBodyLine } from "./bodies.js";
import definition from "./definition.json";
import type { Environment } from "../src/environment.ts";
import type { Extension } from "../src/extension.ts";
import { BodyFailure } from "../src/failure.ts";
import { createWorker } from "../src/handler.ts";
import { mapPooled } from "../src/pool.ts";
import { callAside } from "../src/tool.ts";

const extension: Extension = {
  tools: {
    /** Calls one tool for each input; an input that is an object with `abort` ends all calls when its own has ended. */
    async side_by_side({ tool, inputs, limit }: { tool: string; inputs: Record<string, unknown>[]; limit: number }, call) {
      const all = new AbortController();
      const ends = await mapPooled(inputs, limit, AbortSignal.any([call.context.signal, all.signal]), async (input) => {
        try {
          const { content } = await callAside(call, tool, input, all.signal);
          return content[0];
        } catch (error) {
          if (BodyFailure.is(error)) return error.kind;
          throw error;
        } finally {
          if (input["abort"]) all.abort();
        }
      });
      return ends.map((end) => end ?? "not begun");
    },
  },
  /** What the option `around` says: nothing, tell the failure's kind, or wait for a slot. */
  async around(_call, next) {
    const { around } = definition.options as { around?: { tell?: boolean; timeoutMs?: number; waitMs?: number } };
    const { tell, ...limits } = around ?? {};
    try {
      return await next(limits);
    } catch (error) {
      if (!tell || !BodyFailure.is(error)) throw error;
      return { content: [{ type: "text", text: error.kind }] };
    }
  },
};

export default createWorker({ definition, bodies, firstBodyLine }, extension) satisfies ExportedHandler<Environment>;
