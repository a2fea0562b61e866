// The way out of a server's Worker: every `fetch` comes through here, and so does every hop of a redirect, since
// redirects are handed back unfollowed. `env.server` is the server's name, which the dispatcher gives; its rules are
// read each time, so that those of the version that is live hold. Without rules nothing leaves.
import { addressOf, isNamed, isWithin } from "./egress_matcher.js";

/** Addresses that are no public ones. */
const PRIVATE = [
  [[0], 8], [[10], 8], [[100, 64], 10], [[127], 8], [[169, 254], 16], [[172, 16], 12], [[192, 0, 0], 24],
  [[192, 0, 2], 24], [[192, 88, 99], 24], [[192, 168], 16], [[198, 18], 15], [[198, 51, 100], 24],
  [[203, 0, 113], 24], [[224], 4], [[240], 4],
].map(([bytes, prefix]) => ({ bytes: padded(bytes, 4), prefix }));
/** The only part of IPv6 that is assigned to be routed. */
const ROUTED_V6 = { bytes: padded([0x20], 16), prefix: 3 };
/** What of that carries an IPv4 address (Teredo, 6to4) or is for documentation. */
const PRIVATE_V6 = [
  [[0x20, 0x01], 32], [[0x20, 0x01, 0x0d, 0xb8], 32], [[0x20, 0x02], 16], [[0x3f, 0xff], 20],
].map(([bytes, prefix]) => ({ bytes: padded(bytes, 16), prefix }));

function padded(bytes, length) {
  return [...bytes, ...Array(length - bytes.length).fill(0)];
}

function isPublic(address) {
  if (address.length === 4) return !PRIVATE.some((block) => isWithin(address, block));
  return isWithin(address, ROUTED_V6) && !PRIVATE_V6.some((block) => isWithin(address, block));
}

/** Why a request to this host may not leave; null if it may. */
function refusal(host, rules) {
  const address = addressOf(host);
  if (address !== null) {
    if (rules?.blocks.some((block) => isWithin(address, block))) return null;
    if (rules !== null) return `address ${host} is not in this server's egress list`;
    return isPublic(address) ? null : `address ${host} is private and the egress list does not hold it`;
  }
  if (host === "localhost" || host.endsWith(".localhost")) return `host ${host} is private`;
  return isNamed(host, rules) ? null : `host ${host} is not in this server's egress list`;
}

export default {
  async fetch(request, env) {
    const row = await env.DATABASE.prepare("SELECT rules FROM worker_egress WHERE server = ?").bind(env.server).first();
    if (row === null) return new Response(`server ${env.server} has no egress rules`, { status: 403 });
    const host = new URL(request.url).hostname.toLowerCase().replace(/\.$/, "");
    const reason = refusal(host, JSON.parse(row.rules));
    return reason === null ? fetch(request, { redirect: "manual" }) : new Response(reason, { status: 403 });
  },
};
