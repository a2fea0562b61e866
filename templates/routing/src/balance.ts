import type { UpstreamOptions } from "./options.ts";
import type { Replica } from "./replica.ts";

/** The replicas that may be asked, in the order in which they are tried. `turn` counts the calls. */
export function inOrder(strategy: UpstreamOptions["strategy"], replicas: readonly Replica[], turn: number, now: number): Replica[] {
  const ready = arranged(strategy, replicas, turn, now).filter((replica) => replica.state(now) !== "open");
  return [...ready.filter((replica) => !replica.isSuspect(now)), ...ready.filter((replica) => replica.isSuspect(now))];
}

function arranged(strategy: UpstreamOptions["strategy"], replicas: readonly Replica[], turn: number, now: number): Replica[] {
  switch (strategy) {
    case "round-robin":
      return [...replicas.slice(turn % replicas.length), ...replicas.slice(0, turn % replicas.length)];
    case "least-latency":
      // One that is not measured comes first, and so is measured. Sorting keeps the order of equals.
      return replicas.toSorted((a, b) => (a.latencyMs(now) ?? 0) - (b.latencyMs(now) ?? 0));
    case "failover":
      return [...replicas];
  }
}
