//! Collecting problems while walking a definition.

use super::errors::{Problem, ValidationErrors};
pub(super) use crate::text::quote;

/// Most steps that checks against schemas may take for one definition: a few seconds.
const STEPS: u64 = 20_000_000;

/// A place in the definition: a JSON pointer that grows on the way down.
#[derive(Debug, Clone)]
pub(super) struct Path(String);

impl Path {
    /// The definition as a whole.
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    /// The member `key` of the object here.
    pub(super) fn key(&self, key: &str) -> Self {
        let mut pointer = String::with_capacity(self.0.len() + key.len() + 1);
        pointer.push_str(&self.0);
        pointer.push('/');
        for character in key.chars() {
            match character {
                '~' => pointer.push_str("~0"),
                '/' => pointer.push_str("~1"),
                other => pointer.push(other),
            }
        }
        Self(pointer)
    }

    /// The place that a JSON pointer names from here.
    pub(super) fn join(&self, pointer: &str) -> Self {
        Self(format!("{}{pointer}", self.0))
    }

    /// The element `index` of the array here.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}/{index}", self.0))
    }

    /// The pointer as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    /// Steps that checks against schemas took so far.
    steps: u64,
}

impl Problems {
    /// Notes that something is wrong at `path`.
    pub(super) fn add(&mut self, path: &Path, message: impl Into<String>) {
        self.push(Problem::new(path.0.clone(), message));
    }

    /// Notes a problem that is complete already.
    pub(super) fn push(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether a check may still be made, by the steps that it takes: `None` if they are more than `most`. It counts as
    /// made then, and so does one that was refused: to find that out takes as long.
    pub(super) fn afford(&mut self, most: u64, steps: impl FnOnce() -> Option<u64>) -> bool {
        if self.steps > STEPS {
            return false;
        }
        let steps = steps();
        self.steps += steps.unwrap_or(most);
        steps.is_some() && self.steps <= STEPS
    }

    /// `value` checked by its own `FromStr`; its error becomes a problem.
    pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, path: &Path, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.add(path, error.to_string())).ok()
    }

    /// The answer where a single problem keeps everything else from being looked at.
    pub(super) fn only<T>(path: &Path, message: String) -> Result<T, ValidationErrors> {
        let mut problems = Self::default();
        problems.add(path, message);
        problems.finish(None)
    }

    /// Adds the problems of a part that was looked at earlier than its place.
    pub(super) fn append(&mut self, mut other: Self) {
        self.found.append(&mut other.found);
        self.steps += other.steps;
    }

    /// The checked value, or every problem that kept it from being one.
    pub(super) fn finish<T>(self, checked: Option<T>) -> Result<T, ValidationErrors> {
        match checked {
            Some(value) => ValidationErrors::check(self.found).map(|()| value),
            None => Err(ValidationErrors::from_problems(self.found)),
        }
    }
}

/// The candidate nearest to a mistyped `text`, as `; did you mean "…"?`, or nothing.
pub(super) fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(text, candidates).map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

/// The candidate that `text` was probably meant to be.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short; a longer text is no typing mistake, and comparing it costs the product of the lengths.
    if text.len() > 128 {
        return None;
    }
    let text = normalized(text);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 128)
        .map(|candidate| (strsim::jaro_winkler(&text, &normalized(candidate)), candidate))
        .filter(|(similarity, _)| *similarity >= 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Without case and separators, so that `input_schema` is near `inputSchema`.
fn normalized(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}
