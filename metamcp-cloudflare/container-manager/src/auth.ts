import { Problem } from "./problem.ts";

/** Lets a request with the right bearer key through. Without a configured key nobody is let through. */
export async function authenticate(request: Request, key: string | undefined): Promise<void> {
  if (key === undefined || key === "") {
    throw new Problem("unauthenticated", "this Container Manager has no key", "npx wrangler secret put CONTAINER_MANAGER_KEY");
  }
  const given = /^Bearer (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
  // Digests have one length, and comparing them tells nothing about the key.
  const [one, other] = await Promise.all([sha256(given), sha256(key)]);
  if (!crypto.subtle.timingSafeEqual(one, other)) {
    throw new Problem("unauthenticated", "the key is missing or wrong", "send it as `Authorization: Bearer KEY`");
  }
}

function sha256(text: string): Promise<ArrayBuffer> {
  return crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
}
