import type { Definition } from "./definition.ts";

/** Everything the Worker is bound to, as workerd hands it over. */
export type Environment = Readonly<Record<string, unknown>>;

/** Bindings of the runtime itself, which bodies never see. */
const ALLOWED_HOSTS = "METAMCP_HOSTS";
const STATE_KEY = "METAMCP_STATE_KEY";
const CHECK_KEY = "METAMCP_CHECK_KEY";
const VERSION = "METAMCP_VERSION";
const OWN: ReadonlySet<string> = new Set([ALLOWED_HOSTS, STATE_KEY, CHECK_KEY, VERSION]);

/** The part of the environment that the definition declares: all that a body may see. */
export function bodyEnvironment(definition: Definition, env: Environment): Environment {
  const declared = [...definition.vars, ...definition.secrets, ...definition.bindings];
  const visible = declared.filter((name) => env[name] !== undefined && !OWN.has(name));
  return Object.freeze(Object.fromEntries(visible.map((name) => [name, env[name]])));
}

/** The host names that requests may be addressed to; absent means any. */
export function allowedHosts(env: Environment): ReadonlySet<string> | undefined {
  const hosts = env[ALLOWED_HOSTS];
  if (hosts === undefined) return undefined;
  // A list that cannot be read allows no host: failing open would disarm the check.
  try {
    return new Set((JSON.parse(String(hosts)) as string[]).map((host) => host.toLowerCase()));
  } catch {
    return new Set();
  }
}

/** The key that signs what a client carries between two rounds of one call. */
export function requestStateKey(env: Environment): Uint8Array | undefined {
  const key = env[STATE_KEY];
  return typeof key === "string" ? Uint8Array.from(atob(key), (character) => character.charCodeAt(0)) : undefined;
}

/** The values that may not be logged, by name: declared secrets, the one of callers, and the runtime's own keys. */
export function secretValues({ secrets, auth }: Definition, env: Environment): [name: string, value: string][] {
  const names = [...secrets, ...(auth === "none" ? [] : [auth.bearer.secret]), STATE_KEY, CHECK_KEY];
  return names.flatMap((name) => {
    const value = env[name];
    return typeof value === "string" ? [[name, value] as [string, string]] : [];
  });
}

/** A bearer token of the publisher's own, with which it checks a server whose secret it cannot read. */
export function checkKey(env: Environment): string | undefined {
  const key = env[CHECK_KEY];
  return typeof key === "string" && key !== "" ? key : undefined;
}

/** Which version this is, where the publisher says so: what was made live may take its time to arrive. */
export function versionName(env: Environment): string | undefined {
  const version = env[VERSION];
  return typeof version === "string" ? version : undefined;
}
