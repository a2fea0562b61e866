//! All problems of one definition, each with a JSON pointer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Every problem found in a definition; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValidationErrors(Vec<Problem>);

/// One problem: where it is, what is wrong, what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Problem {
    /// JSON pointer (RFC 6901) into the definition; empty for the definition as a whole.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Line within the JavaScript body at `pointer`, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column within that line, from 1, in UTF-16 units as editors count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Problem {
    /// A problem of the value at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), line: None, column: None }
    }
}

impl ValidationErrors {
    /// The problems as an error, or `Ok` if there are none.
    pub fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// At least one problem, which a caller has noted where it gave up.
    pub(super) fn from_problems(problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "whatever stops a check notes why");
        Self(problems)
    }

    /// The problems, in the order of the definition's fields.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [_] => f.write_str("the definition has 1 problem")?,
            problems => write!(f, "the definition has {} problems", problems.len())?,
        }
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str("(root)")?;
        } else {
            f.write_str(&self.pointer)?;
        }
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " line {line}, column {column}: {}", self.message),
            _ => write!(f, ": {}", self.message),
        }
    }
}

impl std::error::Error for ValidationErrors {}
