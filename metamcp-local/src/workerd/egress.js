// The one way out of a server's process. This Worker alone holds the `network` services; the server's Worker has
// it as its `globalOutbound`, so every `fetch` and every hop of a redirect comes through here. It exports no
// `connect`, so there are no raw sockets.
import { addressOf, isNamed, isWithin } from "./egress_matcher.js";

/** The service that may carry a request to this host, or null if the host is not allowed. */
function wayTo(host, env) {
  const rules = env.RULES;
  const address = addressOf(host);
  if (address !== null && rules?.blocks.some((block) => isWithin(address, block))) return env.BLOCKS;
  if (!isNamed(host, rules) || (address !== null && rules !== null)) return null;
  return env[env.OVERRIDES[host]] ?? env.PUBLIC;
}

export default {
  async fetch(request, env) {
    const host = new URL(request.url).hostname.toLowerCase().replace(/\.$/, "");
    const way = wayTo(host, env);
    if (way === null) throw new Error(`host ${host} is not in this server's egress list`);
    try {
      return await way.fetch(request, { redirect: "manual" });
    } catch (error) {
      // workerd hides why a connection failed; the two reasons a reader can act on are named.
      if (!String(error?.message).startsWith("internal error")) throw error;
      throw new Error(
        `could not connect to ${host}: it does not answer, or its address is private and the egress list does not hold it as an IP address or CIDR block`,
      );
    }
  },
};
