// How a host is compared with the lists of a server's `egress`, for every Worker that stands in a server's way out.

/** The bytes of a host that is an IP address, IPv4 within IPv6 as IPv4; null for a name. */
export function addressOf(host) {
  if (/^\d+\.\d+\.\d+\.\d+$/.test(host)) return host.split(".").map(Number);
  if (!host.startsWith("[")) return null;
  const [left, right] = host.slice(1, -1).split("::").map((part) => (part === "" ? [] : part.split(":")));
  const groups = right === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill("0"), ...right];
  const bytes = groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]);
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  return mapped ? bytes.slice(12) : bytes;
}

/** Whether an address is in a block. */
export function isWithin(address, { bytes, prefix }) {
  if (address.length !== bytes.length) return false;
  return address.every((byte, index) => {
    const bits = Math.min(8, Math.max(0, prefix - 8 * index));
    const mask = (255 << (8 - bits)) & 255;
    return (byte & mask) === (bytes[index] & mask);
  });
}

/** Whether the lists name a host. Without lists every name is one of theirs. */
export function isNamed(host, lists) {
  return lists === null || lists.hosts.includes(host) || lists.below.some((name) => host.endsWith(`.${name}`));
}
