import { isHostname } from "./schema-hostname.ts";

/** The formats that are checked, each as its standard says. Any other is an annotation. */
export const FORMATS: { readonly [format: string]: (text: string) => boolean } = {
  date: isDate,
  "date-time": isDateTime,
  time: isTime,
  duration: (text) => DURATION.test(text),
  email: isEmail,
  hostname: isHostname,
  ipv4: isIpv4,
  ipv6: isIpv6,
  uri: (text) => isReference(text, ASCII) && HAS_SCHEME.test(text),
  url: (text) => isReference(text, ASCII) && HAS_SCHEME.test(text),
  "uri-reference": (text) => isReference(text, ASCII),
  iri: (text) => isReference(text, UNICODE) && HAS_SCHEME.test(text),
  "iri-reference": (text) => isReference(text, UNICODE),
  "uri-template": (text) => URI_TEMPLATE.test(text),
  uuid: (text) => /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text),
  "json-pointer": isJsonPointer,
  "json-pointer-uri-fragment": (text) =>
    /^#(\/([\w\-.!$&'()*+,;:=@]|%[0-9a-f]{2}|~[01])*)*$/i.test(text),
  "relative-json-pointer": (text) => {
    const rest = /^(?:0|[1-9]\d*)(.*)$/s.exec(text)?.[1];
    return rest === "#" || (rest !== undefined && isJsonPointer(rest));
  },
  regex: (text) => {
    try {
      return new RegExp(text, "u") !== undefined;
    } catch {
      return false;
    }
  },
};

/** RFC 3339. */
function isDate(text: string): boolean {
  const [, year, month, day] = (/^(\d{4})-(\d\d)-(\d\d)$/.exec(text) ?? []).map(Number);
  return year !== undefined && month !== undefined && day !== undefined && day >= 1 && day <= daysOf(year, month);
}

function daysOf(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
  return [31, 0, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0;
}

function isTime(text: string): boolean {
  const parts = /^(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:z|([+-])(\d\d):(\d\d))$/i.exec(text);
  if (parts === null) return false;
  const [hour = 0, minute = 0, second = 0] = parts.slice(1, 4).map(Number);
  const [zoneHour, zoneMinute] = [Number(parts[5] ?? 0), Number(parts[6] ?? 0)];
  if (hour > 23 || minute > 59 || second > 60 || zoneHour > 23 || zoneMinute > 59) return false;
  if (second < 60) return true;
  // A leap second comes at the end of a day in UTC.
  const offset = (zoneHour * 60 + zoneMinute) * (parts[4] === "-" ? -1 : 1);
  const minutesOfDay = 24 * 60;
  return (hour * 60 + minute - offset + 2 * minutesOfDay) % minutesOfDay === minutesOfDay - 1;
}

function isDateTime(text: string): boolean {
  return /^.{10}t/i.test(text) && isDate(text.slice(0, 10)) && isTime(text.slice(11));
}

/** RFC 3339, appendix A: units in order and none left out between two. */
const DURATION = (() => {
  const date = "(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)";
  const time = "T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)";
  return new RegExp(`^P(?:${date}(?:${time})?|${time}|\\d+W)$`);
})();

/** RFC 5321: atoms with dots between them, or a text in quotes. */
const LOCAL_PART = (() => {
  const atom = "[\\w!#$%&'*+/=?^`{|}~-]+";
  return new RegExp(`^(?:${atom}(?:\\.${atom})*|"(?:[\\t !#-\\[\\]-~]|\\\\[!-~])*")$`);
})();

/** RFC 5321: at most 64 bytes before the `@`, and a host after it. */
function isEmail(text: string): boolean {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, at);
  const domain = text.slice(at + 1);
  if (at < 1 || local.length > 64 || domain.length > 254) return false;
  if (!LOCAL_PART.test(local)) return false;
  const literal = /^\[(.*)\]$/s.exec(domain)?.[1];
  if (literal === undefined) return isHostname(domain);
  return /^ipv6:/i.test(literal) ? isIpv6(literal.slice(5)) : isIpv4(literal);
}

function isIpv4(text: string): boolean {
  return /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/.test(text);
}

/** RFC 4291. */
function isIpv6(text: string): boolean {
  let groups = text;
  const dotted = /^(.*:)([\d.]+\.[\d.]*)$/s.exec(text);
  if (dotted !== null) {
    if (!isIpv4(dotted[2] ?? "")) return false;
    // An IPv4 address stands for two groups.
    groups = `${dotted[1]}0:0`;
  }
  const halves = groups.split("::");
  if (halves.length > 2) return false;
  const parts = halves.flatMap((half) => (half === "" ? [] : half.split(":")));
  if (!parts.every((part) => /^[0-9a-f]{1,4}$/i.test(part))) return false;
  return halves.length === 2 ? parts.length < 8 : parts.length === 8;
}

/** RFC 3986, or with the characters of RFC 3987: what may stand in the parts of a reference. */
interface Alphabet {
  user: RegExp;
  host: RegExp;
  path: RegExp;
  query: RegExp;
  fragment: RegExp;
}

function alphabet(more: string, moreInQuery: string): Alphabet {
  const of = (characters: string) => new RegExp(`^(?:[\\w\\-.~!$&'()*+,;=${more}${characters}]|%[0-9a-fA-F]{2})*$`, "u");
  return { user: of(":"), host: of(""), path: of(":@/"), query: of(`:@/?${moreInQuery}`), fragment: of(":@/?") };
}

const ASCII = alphabet("", "");
const UNICODE = alphabet(
  `\\u{a0}-\\u{d7ff}\\u{f900}-\\u{fdcf}\\u{fdf0}-\\u{ffef}${otherPlanes()}`,
  "\\u{e000}-\\u{f8ff}\\u{f0000}-\\u{ffffd}\\u{100000}-\\u{10fffd}",
);

/** The planes from the second on, each without its last two code points. */
function otherPlanes(): string {
  const planes = Array.from({ length: 14 }, (_, index) => (index + 1).toString(16));
  return planes.map((plane) => `\\u{${plane}${plane === "e" ? "1" : "0"}000}-\\u{${plane}fffd}`).join("");
}

const HAS_SCHEME = /^[a-z][a-z0-9+.-]*:/i;
/** The parts as RFC 3986 takes them apart in appendix B: scheme, authority, path, query and fragment. */
const PARTS = /^(?:([^:/?#]+):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/su;

function isReference(text: string, { user, host, path, query, fragment }: Alphabet): boolean {
  const parts = PARTS.exec(text);
  if (parts === null) return false;
  const [, scheme, authority] = parts;
  if (scheme !== undefined && !HAS_SCHEME.test(text)) return false;
  if (authority !== undefined && !isAuthority(authority, user, host)) return false;
  if (scheme === undefined && authority === undefined && /^[^/]*:/.test(parts[3] ?? "")) return false;
  return path.test(parts[3] ?? "") && query.test(parts[4] ?? "") && fragment.test(parts[5] ?? "");
}

function isAuthority(authority: string, user: RegExp, host: RegExp): boolean {
  const parts = /^(?:([^@]*)@)?(\[([^\]]*)\]|[^:]*)(?::\d*)?$/s.exec(authority);
  if (parts === null || !user.test(parts[1] ?? "")) return false;
  const literal = parts[3];
  if (literal === undefined) return host.test(parts[2] ?? "");
  return isIpv6(literal) || /^v[0-9a-f]+\.[\w\-.~!$&'()*+,;=:]+$/i.test(literal);
}

/** RFC 6570. */
const URI_TEMPLATE = (() => {
  const name = "(?:\\w|%[0-9a-fA-F]{2})+(?:\\.(?:\\w|%[0-9a-fA-F]{2})+)*";
  const variable = `${name}(?:\\*|:[1-9]\\d{0,3})?`;
  const expression = `\\{[+#./;?&=,!@|]?${variable}(?:,${variable})*\\}`;
  const literal = "[^\\x00-\\x20\"<>%\\\\^`{|}\\x7f]|%[0-9a-fA-F]{2}";
  return new RegExp(`^(?:${literal}|${expression})*$`, "u");
})();

/** RFC 6901. */
function isJsonPointer(text: string): boolean {
  return /^(?:\/(?:[^~/]|~[01])*)*$/u.test(text);
}
