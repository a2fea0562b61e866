//! Files as tar archives, in memory: how they go into a container and come out of one.

use std::collections::BTreeMap;
use std::io::{Error as IoError, Read};

use bytes::Bytes;
use metamcp_core::{Error, ErrorKind, Result, SourceTree};
use tar::{Archive, Builder, EntryType, Header};

/// Largest number of files that come out of a container.
const MAX_FILES: usize = 10_000;

/// Adds a file.
pub(super) fn append(archive: &mut Builder<Vec<u8>>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append_data(&mut header, path, content).map_err(unwritable)
}

/// A tree as an archive.
pub(super) fn pack<'a>(files: impl IntoIterator<Item = (&'a str, &'a Bytes)>) -> Result<Bytes> {
    let mut archive = Builder::new(Vec::new());
    for (path, content) in files {
        append(&mut archive, path, content)?;
    }
    Ok(archive.into_inner().map_err(unwritable)?.into())
}

/// The files of an archive that somebody else made: plain files with relative paths, or an error. Nothing is
/// written anywhere.
pub(super) fn unpack(archive: &[u8]) -> Result<BTreeMap<String, Bytes>> {
    let mut files = SourceTree::new();
    let mut archive = Archive::new(archive);
    for (count, entry) in archive.entries().map_err(unreadable)?.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            EntryType::Directory => continue,
            EntryType::Regular if count < MAX_FILES => {}
            EntryType::Regular => return Err(hostile("more files than are allowed")),
            other => return Err(hostile(&format!("{path:?}, which is no file but {other:?}"))),
        }
        // The archive is in memory already, so a size it only claims ends early.
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(unreadable)?;
        let path = path.strip_prefix("./").unwrap_or(&path);
        files.insert(path, content).map_err(|_| hostile(&format!("the path {path:?}")))?;
    }
    Ok(files.iter().map(|(path, content)| (path.to_owned(), content.clone())).collect())
}

fn hostile(what: &str) -> Error {
    Error::new(ErrorKind::BuildFailed, format!("the container's output holds {what}"))
}

fn unreadable(error: IoError) -> Error {
    Error::new(ErrorKind::BuildFailed, "the container's output is no archive").with_source(error)
}

/// An archive that could not be written, though it is in memory.
pub(super) fn unwritable(error: IoError) -> Error {
    Error::new(ErrorKind::Unexpected, "could not make an archive").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one entry whose header is written as it is, which the builder itself would refuse.
    fn archive(path: &str, kind: EntryType) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(1);
        header.set_mode(0o644);
        header.set_cksum();
        let mut archive = Builder::new(Vec::new());
        archive.append(&header, b"x".as_slice()).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let content = Bytes::from_static(b"\x00\xff binary");
        let packed = pack([("a/b.bin", &content)]).unwrap();
        assert_eq!(unpack(&packed).unwrap(), BTreeMap::from([("a/b.bin".to_owned(), content)]));
    }

    #[test]
    fn hostile_entries_are_refused() {
        for path in ["/etc/passwd", "../up", "a/../../up"] {
            let error = unpack(&archive(path, EntryType::Regular)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BuildFailed, "{path}: {error}");
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo] {
            let error = unpack(&archive("a", kind)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BuildFailed, "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_cut_off_archive_is_refused() {
        let packed = pack([("a", &Bytes::from(vec![7; 4096]))]).unwrap();
        assert!(unpack(&packed[..1024]).is_err());
    }
}
