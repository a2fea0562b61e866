//! Files as a plain value, and content digests.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, ErrorKind, Result};

/// A project's files by relative path, `/` between the parts. Backends write it to disk or upload it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceTree(BTreeMap<String, Bytes>);

impl SourceTree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a file. Refuses absolute paths, `..`, empty parts and backslashes, so that no tree
    /// can be written outside its folder.
    pub fn insert(&mut self, path: &str, content: impl Into<Bytes>) -> Result<()> {
        let safe = !path.is_empty()
            && !path.contains(['\\', '\0'])
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !safe {
            return Err(Error::new(ErrorKind::Unexpected, format!("{path:?} is not a relative path within the tree")));
        }
        self.0.insert(path.to_owned(), content.into());
        Ok(())
    }

    /// A file's content.
    pub fn get(&self, path: &str) -> Option<&Bytes> {
        self.0.get(path)
    }

    /// Files in order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(path, content)| (path.as_str(), content))
    }

    /// SHA-256 over all paths and contents.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(self.iter().flat_map(|(path, content)| [path.as_bytes(), content.as_ref()]))
    }
}

/// A SHA-256 digest, shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of one text.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes.as_ref()).into())
    }

    /// The digest of a list of texts; each is counted with its length, so that no two lists fall together.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The first `digits` hexadecimal digits.
    pub fn short(&self, digits: usize) -> String {
        self.digits().take(digits).map(char::from).collect()
    }

    /// Its hexadecimal digits. Formatting byte by byte would cost more than the hashing.
    fn digits(&self) -> impl Iterator<Item = u8> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| DIGITS[usize::from(half)])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short(64))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::Unexpected, format!("{text:?} is not a SHA-256 digest"));
        if text.len() != 64 || !text.is_ascii() {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        let mut tree = SourceTree::new();
        for path in ["", "/etc/passwd", "../a", "a/../b", "a//b", "a\\b", "."] {
            assert!(tree.insert(path, "x").is_err(), "{path:?}");
        }
        assert!(tree.insert("src/index.ts", "x").is_ok());
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_digest() {
        assert_ne!(Digest::of_parts([b"ab".as_slice(), b"c"]), Digest::of_parts([b"a".as_slice(), b"bc"]));
    }

    #[test]
    fn a_digest_reads_back_what_it_shows() {
        let digest = Digest::of("x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("zz".parse::<Digest>().is_err());
    }
}
