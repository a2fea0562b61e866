// The one way out of a server's process. This Worker alone holds the `network` services; the server's Worker has
// it as its `globalOutbound`, so every `fetch` and every hop of a redirect comes through here. It exports no
// `connect`, so there are no raw sockets.

/** The bytes of a host that is an IP address, IPv4 within IPv6 as IPv4; null for a name. */
function addressOf(host) {
  if (/^\d+\.\d+\.\d+\.\d+$/.test(host)) return host.split(".").map(Number);
  if (!host.startsWith("[")) return null;
  const [left, right] = host.slice(1, -1).split("::").map((part) => (part === "" ? [] : part.split(":")));
  const groups = right === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill("0"), ...right];
  const bytes = groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]);
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  return mapped ? bytes.slice(12) : bytes;
}

function isWithin(address, { bytes, prefix }) {
  if (address.length !== bytes.length) return false;
  return address.every((byte, index) => {
    const bits = Math.min(8, Math.max(0, prefix - 8 * index));
    const mask = (255 << (8 - bits)) & 255;
    return (byte & mask) === (bytes[index] & mask);
  });
}

/** The service that may carry a request to this host, or null if the host is not allowed. */
function wayTo(host, env) {
  const rules = env.RULES;
  const address = addressOf(host);
  if (address !== null && rules?.blocks.some((block) => isWithin(address, block))) return env.BLOCKS;
  const named = rules === null || rules.hosts.includes(host) || rules.below.some((name) => host.endsWith(`.${name}`));
  if (!named || (address !== null && rules !== null)) return null;
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
