/** What kind of failure a problem is: the words of Meta-MCP's own error kinds. */
export type Kind =
  | "build_failed"
  | "config_invalid"
  | "conflict"
  | "limit_exceeded"
  | "not_found"
  | "permission_denied"
  | "timed_out"
  | "unauthenticated"
  | "unavailable"
  | "unexpected"
  | "unsupported";

const STATUS: Record<Kind, number> = {
  build_failed: 422,
  config_invalid: 400,
  conflict: 409,
  limit_exceeded: 413,
  not_found: 404,
  permission_denied: 403,
  timed_out: 504,
  unauthenticated: 401,
  unavailable: 503,
  unexpected: 500,
  unsupported: 501,
};

/** A failure as callers are told of it. */
export interface ProblemDetails {
  kind: Kind;
  message: string;
  help?: string;
}

/** A failure that a caller is meant to see; anything else that is thrown is `unexpected`. */
export class Problem extends Error {
  readonly details: ProblemDetails;

  constructor(kind: Kind, message: string, help?: string) {
    super(message);
    this.details = help === undefined ? { kind, message } : { kind, message, help };
  }
}

export function detailsOf(error: unknown): ProblemDetails {
  if (error instanceof Problem) return error.details;
  return { kind: "unexpected", message: error instanceof Error ? error.message : String(error) };
}

export function problemResponse(error: unknown): Response {
  const details = detailsOf(error);
  return Response.json({ error: details }, { status: STATUS[details.kind] });
}
