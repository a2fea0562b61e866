//! What text people and models read may hold.

use super::problems::{Path, Problems, quote};

/// Longest description, in characters.
const DESCRIPTION_CHARACTERS: usize = 4096;
/// Longest title or resource name, in characters.
const TITLE_CHARACTERS: usize = 128;

/// A description that has to say something.
pub(super) fn required_description(path: &Path, text: &str, problems: &mut Problems) {
    if text.trim().is_empty() {
        problems.add(path, "is empty; say what it does and when to use it, since a model decides by this text");
    }
    description(path, text, problems);
}

/// A description, which may hold any text but characters that hide what it says.
pub(super) fn description(path: &Path, text: &str, problems: &mut Problems) {
    length(path, text, DESCRIPTION_CHARACTERS, problems);
    hidden(path, text, problems);
}

/// Text of any length that models read, such as a prompt's template.
pub(super) fn hidden(path: &Path, text: &str, problems: &mut Problems) {
    report(path, crate::text::hidden(text), problems);
}

/// A title or name shown on one line.
pub(super) fn title(path: &Path, text: &str, problems: &mut Problems) {
    if text.trim().is_empty() {
        problems.add(path, "is empty; give it a name for people or leave it out");
    }
    length(path, text, TITLE_CHARACTERS, problems);
    line(path, text, problems);
}

/// One line without characters that hide what it says.
pub(super) fn line(path: &Path, text: &str, problems: &mut Problems) {
    let breaks = text.chars().find(|character| character.is_control());
    report(path, breaks.or_else(|| crate::text::hidden(text)), problems);
}

/// `length` in characters, with the text's beginning in the message.
fn length(path: &Path, text: &str, limit: usize, problems: &mut Problems) {
    // Bytes bound characters from above, so that the usual text is not counted.
    if text.len() > limit && text.chars().count() > limit {
        problems.add(path, format!("{} is longer than {limit} characters; shorten it", quote(text)));
    }
}

fn report(path: &Path, character: Option<char>, problems: &mut Problems) {
    if let Some(character) = character {
        problems.add(
            path,
            format!(
                "holds U+{:04X}, a control, direction or invisible character that can hide text from people; remove it",
                u32::from(character)
            ),
        );
    }
}
