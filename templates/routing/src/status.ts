import type { TemplateTool } from "./runtime/extension.ts";
import type { Replica } from "./replica.ts";
import { routerOf, type Router } from "./router.ts";
import { quote, type Upstream } from "./upstream.ts";

/** Names that are told of one list. */
const NAMES_TOLD = 100;

/** `route_status`: what this isolate knows of the upstreams. */
export const routeStatus: TemplateTool = async ({ upstream: name, check }: { upstream?: string; check?: boolean }, { host, context }) => {
  const router = routerOf(host);
  const wanted = router.upstreams.filter((upstream) => name === undefined || upstream.name === name);
  if (wanted.length === 0) {
    const known = router.upstreams.map((upstream) => quote(upstream.name)).join(", ");
    throw new Error(`there is no upstream ${quote(String(name))}; known: ${known}`);
  }
  if (check) await Promise.all(wanted.map((upstream) => upstream.checkAll(context.signal).then(() => upstream.refreshNow())));
  else await Promise.all(wanted.map((upstream) => upstream.refresh()));
  const now = Date.now();
  return { structuredContent: { upstreams: wanted.map((upstream) => statusOf(router, upstream, now)) } };
};

function statusOf(router: Router, upstream: Upstream, now: number) {
  const { list, options } = upstream;
  const hidden = router.hidden(upstream);
  const missing = list === undefined ? [] : (options.tools ?? []).filter((tool) => !list.tools.has(tool));
  return {
    name: upstream.name,
    state: stateOf(upstream, now),
    prefix: upstream.prefix,
    strategy: options.strategy,
    tools: router.listed(upstream).length,
    ...(upstream.listedAt !== undefined && { listedAt: new Date(upstream.listedAt).toISOString() }),
    ...(upstream.listFailure !== undefined && { listFailure: upstream.listFailure }),
    hidden: hidden.slice(0, NAMES_TOLD),
    missing,
    changes: upstream.changes.map(({ at, added, removed, changed }) => ({
      at,
      added: added.slice(0, NAMES_TOLD),
      removed: removed.slice(0, NAMES_TOLD),
      changed: changed.slice(0, NAMES_TOLD),
    })),
    replicas: upstream.replicas.map((replica) => replicaStatus(replica, now)),
  };
}

/** `up`: every replica works. `degraded`: some do, or the list of tools is old. */
function stateOf({ replicas, list, listFailure }: Upstream, now: number): "up" | "degraded" | "down" {
  const working = replicas.filter((replica) => replica.state(now) === "closed" && !replica.isSuspect(now));
  if (working.length === 0 || list === undefined) return "down";
  return working.length === replicas.length && listFailure === undefined ? "up" : "degraded";
}

function replicaStatus(replica: Replica, now: number) {
  const latencyMs = replica.latencyMs(now);
  return {
    host: replica.host,
    breaker: replica.state(now),
    calls: replica.calls,
    failures: replica.failures,
    ...(latencyMs !== undefined && { latencyMs: Math.round(latencyMs) }),
    ...(replica.lastFailure && {
      lastFailure: { at: new Date(replica.lastFailure.at).toISOString(), message: replica.lastFailure.message },
    }),
    ...(replica.state(now) === "open" && { nextCheckAt: new Date(replica.nextCheckAt).toISOString() }),
  };
}
