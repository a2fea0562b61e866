import type { BoundBody } from "./body.ts";
import type { Catalog } from "./catalog.ts";
import { describeThrown, type BodySource } from "./failure.ts";
import { aroundMethod } from "./log.ts";

/**
 * Logs what no call fails of: what a timer's function or a microtask throws, and promises that reject while nobody
 * waits for them. workerd itself tells of none of it where it runs by itself, and of rejections nowhere.
 */
export function logUncaught(catalog: Catalog): void {
  const bodies = bodiesByModule(catalog);
  const log = (what: string, thrown: unknown) => console.error(inWords(what, thrown, bodies));

  // On Cloudflare what is not prevented would be told a second time.
  addErrorListener("error", (event) => {
    event.preventDefault();
    log("uncaught", event.error);
  });
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    log("unhandled rejection", event.reason);
  });
  for (const name of ["setTimeout", "setInterval", "setImmediate"]) {
    aroundMethod(globalThis, name, (call, [run, ...rest]) => call([typeof run === "function" ? caught(run, log) : run, ...rest]));
  }
}

/** The types of workerd leave this event out. */
const addErrorListener = addEventListener as (type: "error", listener: (event: ErrorEvent) => void) => void;

/** What workerd makes of a timer's error is no event, so it is caught where it is thrown. */
function caught(run: Function, log: (what: string, thrown: unknown) => void): (...given: unknown[]) => void {
  return function (this: unknown, ...given) {
    try {
      // A promise is not returned: nobody would wait for it either.
      Reflect.apply(run, this, given);
    } catch (thrown) {
      log("uncaught", thrown);
    }
  };
}

function inWords(what: string, thrown: unknown, bodies: ReadonlyMap<string, BoundBody>): string {
  const body = bodies.get(moduleOf(thrown));
  const description = describeThrown(thrown, body?.source ?? NOWHERE);
  return body === undefined ? `${what}: ${description}` : `${what} in ${body.label}: ${description}`;
}

const NOWHERE: BodySource = { module: "", firstLine: 1 };

/** The module of the body that the stack leads to first. */
function moduleOf(thrown: unknown): string {
  try {
    return /\bbodies\/([\w-]+)\.js:/.exec(String((thrown as Error).stack))?.[1] ?? "";
  } catch {
    return "";
  }
}

function bodiesByModule({ tools, resources, resourceTemplates, prompts }: Catalog): Map<string, BoundBody> {
  const items = [...tools.values(), ...resources.values(), ...resourceTemplates, ...prompts.values()];
  const bodies = items.flatMap(({ body }) => (body === undefined || body.source.module === "" ? [] : [body]));
  return new Map(bodies.map((body) => [body.source.module, body]));
}
