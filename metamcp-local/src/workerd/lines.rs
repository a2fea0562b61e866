//! Lines of what a program writes, each read only up to a limit: one that does not end fills no memory.

/// The line that is being read.
#[derive(Debug)]
pub(crate) struct BoundedLines {
    limit: usize,
    line: Vec<u8>,
}

impl BoundedLines {
    /// Lines of which at most `limit` bytes are read.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new() }
    }

    /// Reads on, and hands over each line that ends here, without its end.
    pub(crate) fn read(&mut self, chunk: &[u8], mut finished: impl FnMut(&[u8])) {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            self.line.extend_from_slice(&text[..text.len().min(self.limit - self.line.len())]);
            if part.ends_with(b"\n") {
                finished(&self.line);
                self.line.clear();
            }
        }
    }

    /// The line that has not ended.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let mut lines = BoundedLines::new(8);
        let mut seen = Vec::new();
        for chunk in ["on", "e\ntwo\n", &"x".repeat(1_000_000), "yz", "\nthree\nfour"] {
            lines.read(chunk.as_bytes(), |line| seen.push(String::from_utf8_lossy(line).into_owned()));
            assert!(lines.rest().len() <= 8 && lines.line.capacity() <= 64, "{lines:?}");
        }
        assert_eq!(seen, ["one", "two", "xxxxxxxx", "three"]);
        assert_eq!(lines.rest(), b"four");
    }
}
