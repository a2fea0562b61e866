import type { Host } from "./call.ts";
import { findResource } from "./resource.ts";
import { isObject } from "./schema.ts";
import { directoryOf } from "./session-binding.ts";

/** Resources that one stream may be about. */
const MOST_RESOURCES = 1000;

/** Opens the streams on which clients of the 2026 revision hear that resources changed; `undefined` for what is none. */
export type Listening = (request: Request, message: unknown, bySdk: ServeBySdk) => Promise<Response> | undefined;

type ServeBySdk = (message: unknown) => Promise<Response>;

/**
 * `subscriptions/listen` for resources is served by the one object that hears of every change. All else that a client
 * may listen for never changes while a version of a server lives, as the SDK tells it.
 */
export function createListening(host: Host): Listening {
  if (directoryOf(host.bindings) === undefined) return () => undefined;

  return (request, message, bySdk) => {
    if (!isObject(message) || message["method"] !== "subscriptions/listen" || !isObject(message["params"])) return undefined;
    const { notifications } = message["params"];
    const uris = isObject(notifications) ? notifications["resourceSubscriptions"] : undefined;
    if (!isObject(notifications) || !Array.isArray(uris) || !uris.every((uri) => typeof uri === "string")) return undefined;
    // The client is told what is left: that is what it will hear of.
    const resourceSubscriptions = uris.filter((uri) => findResource(host.catalog, uri) !== undefined).slice(0, MOST_RESOURCES);
    const params = { ...message["params"], notifications: { ...notifications, resourceSubscriptions } };
    const narrowed = { ...message, params };
    if (resourceSubscriptions.length === 0) return bySdk(narrowed);
    const headers = new Headers(request.headers);
    headers.delete("content-length");
    const passedOn = new Request(request.url, { method: "POST", headers, body: JSON.stringify(narrowed) });
    // A stub belongs to the request that made it.
    return directoryOf(host.bindings)?.fetch(passedOn);
  };
}
