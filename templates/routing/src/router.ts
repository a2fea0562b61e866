import type { Tool } from "@modelcontextprotocol/server";
import type { Host } from "./runtime/call.ts";
import type { DynamicTools, TemplateTool } from "./runtime/extension.ts";
import type { RoutingOptions } from "./options.ts";
import type { HiddenTool, ToolList } from "./tool-list.ts";
import { quote, Upstream } from "./upstream.ts";

/** Tools that a server lists beside its own. */
const MOST_LISTED = 2000;
const LONGEST_NAME = 64;

/** A tool as this server lists it, and whose it is. */
interface Route {
  upstream: Upstream;
  /** As the upstream lists it. */
  tool: Tool;
  listed: Tool;
}

/** The routes that follow from the lists of all upstreams. */
interface Table {
  from: readonly (ToolList | undefined)[];
  routes: ReadonlyMap<string, Route>;
  hidden: ReadonlyMap<Upstream, readonly HiddenTool[]>;
}

/** The upstreams of one server in one isolate. */
export class Router {
  readonly upstreams: readonly Upstream[];
  #table: Table | undefined;

  constructor(private readonly host: Host) {
    const options = host.catalog.definition.options as unknown as RoutingOptions;
    this.upstreams = options.upstreams.map((upstream) => new Upstream(upstream, options, host));
  }

  /** What is known now; upstreams whose list is old are asked first. */
  async list(): Promise<Tool[]> {
    await Promise.all(this.upstreams.map((upstream) => upstream.refresh()));
    return [...this.#current().routes.values()].map(({ listed }) => listed);
  }

  /** The tool of that name, or one that says why it cannot be known whether there is one. */
  async find(name: string): Promise<TemplateTool | undefined> {
    const possible = this.upstreams.filter(({ prefix }) => name.startsWith(prefix));
    const known = this.#current().routes.get(name);
    if (known === undefined) await Promise.all(possible.map((upstream) => upstream.refreshForNewTool()));
    // An old list does not say that a tool still is what was accepted, and who only calls never lists.
    else if (known.upstream.options.pins !== undefined) await known.upstream.refresh();
    const route = this.#current().routes.get(name);
    if (route !== undefined) return callOf(route);
    const unknown = possible.find(({ list }) => list === undefined);
    if (unknown === undefined) return undefined;
    return () => {
      throw new Error(`upstream ${quote(unknown.name)} has not listed its tools yet: ${unknown.listFailure ?? "it did not answer in time"}`);
    };
  }

  /** The names under which an upstream's tools are listed. */
  listed(upstream: Upstream): string[] {
    return [...this.#current().routes].flatMap(([name, route]) => (route.upstream === upstream ? [name] : []));
  }

  /** What an upstream offers and this server does not list. */
  hidden(upstream: Upstream): readonly HiddenTool[] {
    return this.#current().hidden.get(upstream) ?? [];
  }

  #current(): Table {
    const from = this.upstreams.map(({ list }) => list);
    if (this.#table === undefined || this.#table.from.some((list, index) => list !== from[index])) {
      this.#table = { from, ...this.#build() };
    }
    return this.#table;
  }

  /** The server's own tools come first, then the upstreams in their order: whoever comes later to a name is hidden. */
  #build(): Omit<Table, "from"> {
    const taken = new Map([...this.host.catalog.tools.keys()].map((name) => [name.toLowerCase(), "this server itself"]));
    const routes = new Map<string, Route>();
    const hidden = new Map<Upstream, HiddenTool[]>();
    for (const upstream of this.upstreams) {
      const unserved = [...(upstream.list?.hidden ?? [])];
      hidden.set(upstream, unserved);
      for (const [name, tool] of upstream.list?.tools ?? []) {
        if (upstream.options.tools?.includes(name) === false) continue;
        const listed = `${upstream.prefix}${name}`;
        const owner = taken.get(listed.toLowerCase());
        if (owner !== undefined) unserved.push({ name, reason: `${quote(listed)} is taken by ${owner}: choose another prefix` });
        else if (listed.length > LONGEST_NAME) unserved.push({ name, reason: `${quote(listed)} is longer than ${LONGEST_NAME} characters` });
        else if (routes.size >= MOST_LISTED) unserved.push({ name, reason: `more than ${MOST_LISTED} tools would be listed` });
        else {
          taken.set(listed.toLowerCase(), `upstream ${quote(upstream.name)}`);
          routes.set(listed, { upstream, tool, listed: { ...tool, name: listed } });
        }
      }
    }
    return { routes, hidden };
  }
}

function callOf({ upstream, tool }: Route): TemplateTool {
  return (parameters: Record<string, unknown>, { caller, context }) => {
    const wanted = caller.request?.mcpReq._meta?.progressToken !== undefined;
    const onProgress = (done: number, total?: number, message?: string) => void context.progress(done, total, message).catch(() => {});
    return upstream.call(tool, { parameters, signal: context.signal, onProgress: wanted ? onProgress : undefined });
  };
}

const routers = new WeakMap<Host, Router>();

/** What is known of upstreams lives in memory, once for each isolate and Durable Object. */
export function routerOf(host: Host): Router {
  let router = routers.get(host);
  if (router === undefined) {
    router = new Router(host);
    routers.set(host, router);
  }
  return router;
}

export const dynamicTools: DynamicTools = {
  list: (host) => routerOf(host).list(),
  find: (host, name) => routerOf(host).find(name),
};
