import { jsonRpcError } from "./answer.ts";
import type { Environment } from "./environment.ts";
import type { SessionCalls } from "./session.ts";
import type { McpSessionDirectory } from "./session-directory.ts";

/** The names under which the generator binds the two classes, in servers that ask for sessions. */
const SESSIONS = "METAMCP_SESSIONS";
const DIRECTORY = "METAMCP_SESSION_DIRECTORY";

export const SESSION_HEADER = "mcp-session-id";

type SessionObject = Pick<Fetcher, "fetch"> & SessionCalls;

/** The objects of sessions; `undefined` where the definition asks for none. */
export interface Sessions {
  /** A new session's id, which nobody can guess. */
  newId(): string;
  /** The object of a session; `undefined` for an id that this server never gave out. */
  find(id: string): SessionObject | undefined;
}

export function sessionsOf(env: Environment): Sessions | undefined {
  const namespace = env[SESSIONS] as DurableObjectNamespace | undefined;
  if (namespace === undefined) return undefined;
  return {
    newId: () => namespace.newUniqueId().toString(),
    find(id) {
      try {
        // An id holds a check of its namespace, so that no stranger's id makes an object.
        return namespace.get(namespace.idFromString(id)) as unknown as SessionObject;
      } catch {
        return undefined;
      }
    },
  };
}

type DirectoryObject = Pick<McpSessionDirectory, "fetch" | "open" | "touch" | "close" | "subscribe" | "unsubscribe" | "resourceUpdated">;

/** The one object that knows every session. */
export function directoryOf(env: Environment): DirectoryObject | undefined {
  const namespace = env[DIRECTORY] as DurableObjectNamespace | undefined;
  if (namespace === undefined) return undefined;
  return namespace.get(namespace.idFromName("directory")) as unknown as DirectoryObject;
}

/** 404 is what tells a client to begin a new session. */
export function sessionNotFound(): Response {
  return jsonRpcError(404, -32001, "Session not found");
}
