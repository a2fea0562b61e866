//! Text of others, as people and models may be shown it: without what a model reads and a person does not see.

use std::iter;

/// Longest message of another program's that is passed on, in characters.
const MESSAGE_CHARACTERS: usize = 1_000;
/// What stands for a character that is not shown.
const MARK: char = '\u{fffd}';

/// Whether a character shows nothing or changes how others are shown: control characters except line feed and tab,
/// marks, overrides and isolates of direction, invisible ones of no width, and tags. The template `routing` knows the
/// same ones (`HIDES_TEXT` in its `tool-list.ts`).
pub(crate) fn is_hidden(character: char) -> bool {
    (character.is_control() && !matches!(character, '\n' | '\t'))
        || matches!(
            character,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Whether a character only shapes the one before it: emoji and some scripts need these, and they hide text elsewhere.
pub(crate) fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Whether a character has no place in a name: control characters, line breaks among them, and what hides or shapes text.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control() || is_hidden(character) || is_joiner(character)
}

/// The first character of a text that hides some of it.
pub(crate) fn hidden(text: &str) -> Option<char> {
    marked(text).find_map(|(character, hides)| hides.then_some(character))
}

/// The characters of a text, with a mark for each that hides some of it.
pub(crate) fn visible(text: &str) -> impl Iterator<Item = char> {
    marked(text).map(|(character, hides)| if hides { MARK } else { character })
}

/// The characters of a text but those that hide some of it.
#[cfg(feature = "openapi")]
pub(crate) fn without_hidden(text: &str) -> impl Iterator<Item = char> {
    marked(text).filter_map(|(character, hides)| (!hides).then_some(character))
}

/// A message of another program's: on one line, without what hides text, and not longer than 1,000 characters.
pub(crate) fn message(text: &str) -> String {
    let line = visible(text).map(|character| if character.is_whitespace() { ' ' } else { character });
    let mut said: String = line.take(MESSAGE_CHARACTERS + 1).collect();
    if let Some((cut, _)) = said.char_indices().nth(MESSAGE_CHARACTERS) {
        said.truncate(cut);
        said.push('…');
    }
    said
}

/// A text quoted and, since it may be hostile or huge, cut.
pub(crate) fn quote(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

/// Each character, and whether it hides text where it stands.
fn marked(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut before = None;
    let mut characters = text.chars().peekable();
    iter::from_fn(move || {
        let character = characters.next()?;
        let hides = match character {
            // Half of a line break of other systems.
            '\r' => characters.peek() != Some(&'\n'),
            joiner if is_joiner(joiner) => !before.is_some_and(|before| joins(before, joiner)),
            other => is_hidden(other),
        };
        before = Some(character);
        Some((character, hides))
    })
}

/// Whether a joiner belongs to the character before it; several of them in a row could spell something.
fn joins(before: char, joiner: char) -> bool {
    match before {
        '#' | '*' | '0'..='9' => joiner == '\u{fe0f}',
        '\u{fe0f}' => joiner == '\u{200d}',
        before => !before.is_ascii() && !is_joiner(before) && !is_hidden(before),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_hide_text_are_found_wherever_they_stand() {
        let hiding = [
            "\u{e0041}",
            "\u{61c}",
            "\u{200b}",
            "\u{200e}",
            "\u{200f}",
            "\u{202e}",
            "\u{2060}",
            "\u{2069}",
            "\u{206f}",
            "\u{feff}",
            "\u{0}",
            "\u{1b}",
            "\u{7f}",
            "\u{85}",
            "\r",
            "\u{200c}",
            "\u{200d}",
            "\u{fe0e}",
            "\u{fe0f}",
            "\u{e0100}",
            "é\u{200d}\u{200d}",
            "é\u{fe0f}\u{fe0e}",
        ];
        for text in hiding {
            let text = format!("a{text}b");
            assert!(hidden(&text).is_some(), "{text:?}");
            assert!(visible(&text).eq(visible(&text).map(|c| if is_hidden(c) { MARK } else { c })), "{text:?}");
        }
        for text in [
            "",
            "a\tb\nc\r\nd",
            "é",
            "👩🏽\u{200d}🚀",
            "❤\u{fe0f}\u{200d}🔥",
            "1\u{fe0f}\u{20e3}",
            "می\u{200c}خواهم",
            "葛\u{e0100}",
        ] {
            assert_eq!(hidden(text), None, "{text:?}");
            assert!(visible(text).eq(text.chars()), "{text:?}");
        }
    }

    #[test]
    fn messages_are_one_line_and_short() {
        assert_eq!(message("no\u{202e}\r\nsuch \u{e0041}table"), "no\u{fffd}  such \u{fffd}table");
        let long = message(&"é".repeat(5_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (1_001, true));
        assert_eq!(message(&"x".repeat(1_000)).len(), 1_000);
    }
}
