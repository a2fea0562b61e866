/** RFC 1123, and for labels of an international name what RFC 5890 to 5892 say. */
export function isHostname(text: string): boolean {
  return text.length <= 253 && text.split(".").every(isLabel);
}

function isLabel(label: string): boolean {
  if (!/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i.test(label)) return false;
  if (label.slice(2, 4) !== "--") return true;
  const decoded = label.startsWith("xn--") ? fromPunycode(label.slice(4)) : undefined;
  return decoded !== undefined && isInternational(decoded);
}

/** RFC 3492, section 6.2. */
function fromPunycode(text: string): string[] | undefined {
  const hyphen = text.lastIndexOf("-");
  const output = hyphen > 0 ? [...text.slice(0, hyphen)] : [];
  let [code, index, bias] = [128, 0, 72];
  for (let at = hyphen > 0 ? hyphen + 1 : 0; at < text.length; ) {
    const before = index;
    for (let weight = 1, k = 36; ; k += 36) {
      const digit = digitOf(text.charAt(at++));
      if (digit === undefined) return undefined;
      index += digit * weight;
      const threshold = Math.min(Math.max(k - bias, 1), 26);
      if (digit < threshold) break;
      weight *= 36 - threshold;
    }
    const count = output.length + 1;
    bias = adapted(index - before, count, before === 0);
    code += Math.floor(index / count);
    index %= count;
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return undefined;
    output.splice(index++, 0, String.fromCodePoint(code));
  }
  return output;
}

function digitOf(character: string): number | undefined {
  if (!/^[a-z0-9]$/i.test(character)) return undefined;
  return character >= "a" ? character.charCodeAt(0) - 97 : character >= "A" ? character.charCodeAt(0) - 65 : Number(character) + 26;
}

function adapted(distance: number, count: number, first: boolean): number {
  let delta = Math.floor(distance / (first ? 700 : 2));
  delta += Math.floor(delta / count);
  let k = 0;
  for (; delta > 455; k += 36) delta = Math.floor(delta / 35);
  return k + Math.floor((36 * delta) / (delta + 38));
}

/** Signs that RFC 5892 disallows although their kind is allowed, and those that it allows although it is not. */
const DISALLOWED = /[\u0640\u07fa\u302e\u302f\u3031-\u3035\u303b]/;
const ALLOWED = /[\p{Lu}\p{Ll}\p{Lt}\p{Lm}\p{Lo}\p{Mn}\p{Mc}\p{Nd}\u200c\u200d\u00b7\u0375\u05f3\u05f4\u06fd\u06fe\u0f0b\u3007\u30fb\x00-\x7f]/u;
/** What has to stand before, or after, a sign that is allowed only in some contexts. */
const VIRAMA =
  /[\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca\u0e3a\u0f84\u1039\u1714\u1734\u17d2\u1a60\u1b44\u1baa\u1bf2\u1bf3\u2d7f\ua806\ua8c4\ua953\uabed\u{10a3f}\u{11046}\u{1107f}\u{110b9}\u{11133}\u{111c0}\u{11235}\u{112ea}\u{1134d}\u{11442}\u{114c2}\u{115bf}\u{1163f}\u{116b6}\u{1172b}\u{11839}\u{119e0}\u{11a34}\u{11a47}\u{11a99}\u{11c3f}\u{11d44}\u{11d45}\u{11d97}]/u;

function isInternational(characters: readonly string[]): boolean {
  const text = characters.join("");
  if (/^[\p{Mn}\p{Mc}\p{Me}]/u.test(text)) return false;
  if (/\u30fb/.test(text) && !/[\u3040-\u309f\u30a0-\u30fa\u30fc-\u30ff\u4e00-\u9fff]/.test(text)) return false;
  if (/[\u0660-\u0669]/.test(text) && /[\u06f0-\u06f9]/.test(text)) return false;
  return characters.every((character, index) => {
    const [before = "", after = ""] = [characters[index - 1], characters[index + 1]];
    if (character === "\u200d") return VIRAMA.test(before);
    if (character === "\u00b7") return before === "l" && after === "l";
    if (character === "\u0375") return /[\u0370-\u03ff]/.test(after);
    if (character === "\u05f3" || character === "\u05f4") return /[\u0590-\u05ff]/.test(before);
    return !DISALLOWED.test(character) && ALLOWED.test(character);
  });
}
