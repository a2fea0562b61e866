//! Literals of the Cap'n Proto text format.

use std::fmt::Write;

/// A `Text` literal. Everything but printable ASCII is escaped byte by byte, so no text can end the literal.
pub(super) fn text(value: &str) -> String {
    let mut literal = String::with_capacity(value.len() + 2);
    literal.push('"');
    for character in value.chars() {
        match character {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            ' '..='~' => literal.push(character),
            _ => push_escaped(&mut literal, character),
        }
    }
    literal.push('"');
    literal
}

/// A `Data` literal.
pub(super) fn data(value: &[u8]) -> String {
    let mut literal = String::with_capacity(2 * value.len() + 4);
    literal.push_str("0x\"");
    for byte in value {
        write!(literal, "{byte:02x}").expect("writing to a string succeeds");
    }
    literal.push('"');
    literal
}

/// A list of already written items.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    format!("[{}]", items.join(", "))
}

fn push_escaped(literal: &mut String, character: char) {
    let mut buffer = [0; 4];
    for byte in character.encode_utf8(&mut buffer).bytes() {
        write!(literal, "\\x{byte:02x}").expect("writing to a string succeeds");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_and_line_ends_cannot_leave_a_literal() {
        insta::assert_snapshot!(text("a\"b\\c\n\u{2028}\0`${x}"), @r#""a\"b\\c\n\xe2\x80\xa8\x00`${x}""#);
    }

    proptest! {
        #[test]
        fn a_literal_is_one_line_with_one_unescaped_quote_at_each_end(value in any::<String>()) {
            let literal = text(&value);
            let inner = &literal[1..literal.len() - 1];
            let unescaped = inner.replace("\\\\", "").replace("\\\"", "");
            prop_assert!(!unescaped.contains('"') && inner.is_ascii() && !inner.contains('\n'));
        }
    }
}
