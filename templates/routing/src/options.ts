/** `options` of the definition. Validation checked them, and filled in the defaults. */
export interface RoutingOptions {
  upstreams: UpstreamOptions[];
  /** How long a list of tools counts as new. */
  refreshMs: number;
  breaker: BreakerOptions;
}

export interface UpstreamOptions {
  name: string;
  /** Stands before the names of its tools; by default the upstream's name and `_`. */
  prefix?: string;
  /** The only tools that are served, by the upstream's own names; absent means all. */
  tools?: string[];
  /** Digests of its tools as they were accepted, by its own names; one that is another now is not served. */
  pins?: Record<string, string>;
  strategy: "round-robin" | "least-latency" | "failover";
  /** For one request to one replica. */
  timeoutMs: number;
  replicas: ReplicaOptions[];
}

export interface ReplicaOptions {
  url: string;
  headers: Record<string, SecretHeader>;
}

/** A header whose value is a secret, after the scheme where there is one: `Bearer …`. */
export interface SecretHeader {
  secret: string;
  scheme?: string;
}

export interface BreakerOptions {
  /** Failures in a row after which a replica gets no calls. */
  failures: number;
  /** For how long, the first time. */
  openMs: number;
}
