//! Literals of the Cap'n Proto text format.

use std::fmt::Write;

/// A `Text` literal; everything but printable ASCII is escaped.
pub(super) fn text(value: &str) -> String {
    let mut literal = String::with_capacity(value.len() + 2);
    literal.push('"');
    for byte in value.bytes() {
        match byte {
            b'"' => literal.push_str("\\\""),
            b'\\' => literal.push_str("\\\\"),
            b' '..=b'~' => literal.push(char::from(byte)),
            _ => write!(literal, "\\x{byte:02x}").expect("writing to a string succeeds"),
        }
    }
    literal.push('"');
    literal
}

/// A `Data` literal.
pub(super) fn data(value: &[u8]) -> String {
    let mut literal = String::from("0x\"");
    for byte in value {
        write!(literal, "{byte:02x}").expect("writing to a string succeeds");
    }
    literal.push('"');
    literal
}

/// A list of written items.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}
