import type { Definition } from "./definition.ts";
import { allowedHosts, checkKey, type Environment } from "./environment.ts";

/** Answers why a request may not come in, or `undefined` when it may. */
export type Guard = (request: Request) => Promise<Response | undefined>;

export function createGuard(definition: Definition, env: Environment): Guard {
  const hosts = allowedHosts(env);
  const authenticate = definition.auth === "none" ? undefined : bearer(definition.auth.bearer.secret, env);

  return async (request) => {
    // Only browsers send an Origin; a foreign one is a page that rebinds DNS or forges a request.
    const origin = request.headers.get("origin");
    const host = hosts === undefined && origin === null ? undefined : hostOf(request);
    if (hosts !== undefined && (host === undefined || !hosts.has(host))) {
      return refuse(403, `this server does not answer for the host ${JSON.stringify(host ?? "")}`);
    }
    if (origin !== null) {
      const originHost = hostName(origin);
      const known = originHost !== undefined && (hosts?.has(originHost) ?? originHost === host);
      if (!known) return refuse(403, `the origin ${JSON.stringify(origin)} is not allowed`);
    }

    return authenticate?.(request);
  };
}

function bearer(secret: string, env: Environment): Guard {
  const expected = env[secret];
  if (typeof expected !== "string" || expected === "") {
    // Without its secret the server is closed, never open.
    return async () => refuse(503, `the secret ${secret}, which authenticates clients, is not set`);
  }
  const accepted = Promise.all([expected, checkKey(env)].filter((token) => token !== undefined).map(digest));

  return async (request) => {
    const [, token] = /^Bearer +(\S+) *$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    if (token === undefined) {
      return refuse(401, "a bearer token is needed", { "WWW-Authenticate": "Bearer" });
    }
    // Digests have one length, so the comparison shows neither the secret's text nor its length.
    const given = await digest(token);
    const matches = (await accepted).map((known) => crypto.subtle.timingSafeEqual(given, known));
    if (!matches.includes(true)) {
      return refuse(401, "the bearer token is not valid", { "WWW-Authenticate": 'Bearer error="invalid_token"' });
    }
    return undefined;
  };
}

function digest(text: string): Promise<ArrayBuffer> {
  return crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
}

function hostOf(request: Request): string | undefined {
  return hostName(`http://${request.headers.get("host") ?? new URL(request.url).host}`);
}

/** The host of a URL in lower case and without its port; `undefined` for what is no URL, such as the origin `null`. */
function hostName(url: string): string | undefined {
  return URL.parse(url)?.hostname || undefined;
}

function refuse(status: number, error: string, headers?: Record<string, string>): Response {
  return Response.json({ error }, { status, headers });
}
