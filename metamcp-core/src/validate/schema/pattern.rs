//! Regular expressions of JavaScript's `u` mode in the words of Rust's engines, so that both match the same texts.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// What `.` leaves out.
const LINE_ENDS: &str = r"\n\r\x{2028}\x{2029}";
const DIGIT: &str = "0-9";
const WORD: &str = "A-Za-z0-9_";
const SPACE: &str = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}";
const NO_DIGIT: &str = r"\x00-/:-\x{10ffff}";
const NO_WORD: &str = r"\x00-/:-@\[-^`\{-\x{10ffff}";
const NO_SPACE: &str = r"\x00-\x08\x0e-\x1f!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}";

/// The pattern for the engines that the crate `jsonschema` uses, or why there is none. `pattern` is well-formed.
pub(super) fn to_rust(pattern: &str) -> Result<String, &'static str> {
    let mut translated = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = rest.next() {
        match character {
            '\\' => escape(&mut rest, in_class, &mut translated)?,
            '.' if !in_class => push(&mut translated, format_args!("[^{LINE_ENDS}]")),
            '[' if !in_class => in_class = open_class(&mut rest, &mut translated),
            ']' if in_class => {
                in_class = false;
                translated.push(']');
            }
            // Operators on sets in Rust, plain characters in JavaScript.
            '[' | '&' | '~' if in_class => push(&mut translated, format_args!("\\{character}")),
            other => translated.push(other),
        }
    }
    Ok(translated)
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _written = text.write_fmt(part);
}

/// Whether a class was opened: the two empty ones are complete already.
fn open_class(rest: &mut Peekable<Chars<'_>>, translated: &mut String) -> bool {
    let negated = rest.next_if_eq(&'^').is_some();
    if rest.next_if_eq(&']').is_some() {
        translated.push_str(if negated { r"[\x00-\x{10ffff}]" } else { r"[^\x00-\x{10ffff}]" });
        return false;
    }
    translated.push_str(if negated { "[^" } else { "[" });
    // A hyphen in front is a character; two of them would be an operator.
    if rest.next_if_eq(&'-').is_some() {
        translated.push_str(r"\-");
    }
    true
}

fn escape(rest: &mut Peekable<Chars<'_>>, in_class: bool, translated: &mut String) -> Result<(), &'static str> {
    let Some(escaped) = rest.next() else { return Err("ends with a backslash") };
    let class = match escaped {
        'd' => DIGIT,
        'D' => NO_DIGIT,
        'w' => WORD,
        'W' => NO_WORD,
        's' => SPACE,
        'S' => NO_SPACE,
        'b' if in_class => r"\x08",
        'b' | 'B' => {
            boundary(escaped == 'b', translated);
            return Ok(());
        }
        '1'..='9' | 'k' => return Err("refers back to a group, which is not supported; write out what may repeat"),
        '0' => {
            literal('\0', translated);
            return Ok(());
        }
        'c' => {
            // `\cJ` is control character J.
            let letter = rest.next().ok_or("ends in the middle of an escape")?;
            literal(char::from(letter as u8 % 32), translated);
            return Ok(());
        }
        'u' => return unicode(rest, translated),
        other => {
            translated.push('\\');
            translated.push(other);
            return Ok(());
        }
    };
    if in_class {
        translated.push_str(class);
    } else {
        push(translated, format_args!("[{class}]"));
    }
    Ok(())
}

/// The edge of a word of ASCII, or a place that is none.
fn boundary(wanted: bool, translated: &mut String) {
    let (same, other) = if wanted { ("!", "=") } else { ("=", "!") };
    push(translated, format_args!("(?:(?<=[{WORD}])(?{same}[{WORD}])|(?<![{WORD}])(?{other}[{WORD}]))"));
}

fn literal(character: char, translated: &mut String) {
    push(translated, format_args!("\\x{{{:x}}}", u32::from(character)));
}

/// `\u{1f600}`, `\u00e9`, or two halves of a pair: `\ud83d\ude00`.
fn unicode(rest: &mut Peekable<Chars<'_>>, translated: &mut String) -> Result<(), &'static str> {
    let code = if rest.next_if_eq(&'{').is_some() {
        let digits: String = rest.by_ref().take_while(|character| *character != '}').collect();
        u32::from_str_radix(&digits, 16).ok()
    } else {
        let high = four_digits(rest);
        let mut ahead = rest.clone();
        match high {
            Some(high @ 0xd800..=0xdbff) if ahead.next() == Some('\\') && ahead.next() == Some('u') => {
                let low = four_digits(&mut ahead).filter(|low| (0xdc00..=0xdfff).contains(low));
                *rest = ahead;
                low.map(|low| 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            }
            other => other,
        }
    };
    let character = code.and_then(char::from_u32).ok_or("names half of a character, which no text has")?;
    literal(character, translated);
    Ok(())
}

fn four_digits(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let digits: String = rest.by_ref().take(4).collect();
    u32::from_str_radix(&digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_the_languages_is_written_out() {
        for (pattern, translated) in [
            (r"^a.b$", r"^a[^\n\r\x{2028}\x{2029}]b$"),
            (r"[\d.]", "[0-9.]"),
            (r"\w+", "[A-Za-z0-9_]+"),
            (r"[^]|[]", r"[\x00-\x{10ffff}]|[^\x00-\x{10ffff}]"),
            (r"[a[&&b]", r"[a\[\&\&b]"),
            (r"\ud83d\ude00\u{e9}\u0041\0\cJ", r"\x{1f600}\x{e9}\x{41}\x{0}\x{a}"),
            (r"\/\p{L}\.", r"\/\p{L}\."),
        ] {
            assert_eq!(to_rust(pattern).unwrap(), translated);
        }
        assert!(to_rust(r"(a)\1").unwrap_err().contains("refers back"));
        assert!(to_rust(r"\ud83d").is_err());
    }
}
