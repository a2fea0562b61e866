/**
 * Why a request to a replica failed.
 *
 * - `refused`: it did not take the request, so nothing was carried out.
 * - `lost`: no whole answer came. Whether the request was carried out is not known: workerd tells a refused connection
 *   and one that broke after the request was sent by the same words.
 * - `invalid`: it answered what MCP does not allow.
 * - `large`: it answered more than is allowed.
 * - `error`: it answered with an error of JSON-RPC. It works, and did not like the request.
 */
export type FailureKind = "refused" | "lost" | "invalid" | "large" | "error";

/** What JSON-RPC and HTTP said. */
interface Codes {
  status?: number;
  code?: number;
}

export class UpstreamFailure extends Error {
  readonly status: number | undefined;
  readonly code: number | undefined;

  constructor(
    readonly kind: FailureKind,
    message: string,
    { status, code }: Codes = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Whether the replica is to blame: too busy is not broken, and neither is a wrong or large question. */
  get countsAgainstReplica(): boolean {
    return this.kind !== "large" && this.kind !== "error" && this.status !== TOO_MANY_REQUESTS;
  }
}

const TOO_MANY_REQUESTS = 429;

/** Upstreams write errors too: enough of them to act on, on one line, without characters that hide text. */
export function quoted(text: string): string {
  const visible = text.replace(/[\p{Cc}\p{Cf}]+/gu, " ");
  return visible.length > LONGEST_QUOTE ? `${visible.slice(0, LONGEST_QUOTE)}…` : visible;
}

const LONGEST_QUOTE = 500;
