//! Files of a workspace. Every path is checked twice: as text, and by the container, which follows symbolic links.

use std::time::Duration;

use bytes::Bytes;
use metamcp_core::{Error, ErrorKind, Result};
use tokio::time::timeout;

use super::container::Container;
use super::exec::{Output, Program, run};

/// Largest file that is read or written.
pub(super) const MAX_FILE_BYTES: usize = 32 << 20;
/// Longest path.
const MAX_PATH_BYTES: usize = 1024;
/// A file is a matter of milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Sets `path` to the file's place, and ends with 81 if a symbolic link leads out of the workspace. `$1` is the
/// relative path; what of it exists decides.
const RESOLVE: &str = r#"
path=/app${1:+/$1} there=$path
while [ ! -e "$there" ] && [ ! -L "$there" ]; do there=${there%/*}; done
case $(readlink -f "$there" && echo .) in
  /app"
". | /app/*) ;;
  *) exit 81 ;;
esac
"#;
const WRITE: &str = r#"
[ ! -d "$path" ] || exit 83
mkdir -p "${path%/*}" && cat >"$path.metamcp-new" && mv -f "$path.metamcp-new" "$path" || {
  rm -f "$path.metamcp-new"
  exit 1
}
"#;
const READ: &str = r#"
[ -e "$path" ] || exit 82
[ -f "$path" ] || exit 83
exec cat "$path"
"#;
const LIST: &str = r#"
[ -e "$path" ] || exit 82
[ -d "$path" ] || exit 84
cd "$path" || exit 1
for name in * .[!.]* ..?*; do
  if [ -d "$name" ] && [ ! -L "$name" ]; then printf '%s/\0' "$name"
  elif [ -e "$name" ] || [ -L "$name" ]; then printf '%s\0' "$name"; fi
done
"#;
const DELETE: &str = r#"exec rm -rf "$path""#;
const FOLDER: &str = r#"
[ -d "$path" ] || exit 82
exec readlink -f "$path"
"#;

pub(super) async fn write(container: &Container, path: &str, content: Bytes) -> Result<()> {
    if content.len() > MAX_FILE_BYTES {
        return Err(too_large(path));
    }
    operate(container, "write", WRITE, checked(path)?, Some(content)).await.map(drop)
}

pub(super) async fn read(container: &Container, path: &str) -> Result<Bytes> {
    Ok(operate(container, "read", READ, checked(path)?, None).await?.into())
}

/// Names in a folder, sorted; folders end with `/`.
pub(super) async fn list(container: &Container, path: &str) -> Result<Vec<String>> {
    let listed = operate(container, "list", LIST, checked_folder(path)?, None).await?;
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

/// A symbolic link is removed itself, not what it leads to.
pub(super) async fn delete(container: &Container, path: &str) -> Result<()> {
    let path = checked(path)?;
    let script =
        if path.contains('/') { format!("{}{DELETE}", resolve_parent()) } else { format!("path=/app/$1\n{DELETE}") };
    run_script(container, "delete", script, path, None).await.map(drop)
}

/// Where a working directory really is.
pub(super) async fn folder(container: &Container, path: &str) -> Result<String> {
    let found = operate(container, "enter", FOLDER, checked_folder(path)?, None).await?;
    Ok(String::from_utf8_lossy(&found).trim_end_matches('\n').to_owned())
}

/// Checks the folder of the path alone.
fn resolve_parent() -> String {
    format!("whole=/app/$1\nset -- \"${{1%/*}}\"\n{RESOLVE}path=$whole\n")
}

async fn operate(container: &Container, verb: &str, script: &str, path: &str, input: Option<Bytes>) -> Result<Vec<u8>> {
    run_script(container, verb, format!("{RESOLVE}{script}"), path, input).await
}

/// Runs a script with a path as its argument, which never becomes part of its text.
async fn run_script(
    container: &Container,
    verb: &str,
    script: String,
    path: &str,
    input: Option<Bytes>,
) -> Result<Vec<u8>> {
    let mut program = Program::new(["sh", "-c", &script, "files", path]);
    program.input = input;
    let mut output = Output::with_limit(MAX_FILE_BYTES);
    let code = timeout(LIMIT, run(container, program, &mut output)).await.map_err(|_| {
        Error::new(ErrorKind::TimedOut, format!("could not {verb} {path:?} within {} s", LIMIT.as_secs()))
    })??;
    match code {
        0 if output.is_cut => Err(too_large(path)),
        0 => Ok(output.stdout),
        81 => Err(outside(path)),
        82 => Err(Error::new(ErrorKind::NotFound, format!("{path:?} does not exist in the workspace"))),
        83 => Err(Error::new(ErrorKind::Conflict, format!("{path:?} is no plain file"))),
        84 => Err(Error::new(ErrorKind::Conflict, format!("{path:?} is no folder"))),
        _ => Err(failed(verb, path, &output)),
    }
}

fn failed(verb: &str, path: &str, output: &Output) -> Error {
    let said = output.tail(3);
    // What the system says in English, since the container has no other language.
    let is_full = said.contains("No space left on device");
    let kind = if is_full { ErrorKind::LimitExceeded } else { ErrorKind::Unavailable };
    let error = Error::new(kind, format!("could not {verb} {path:?}: {said}"));
    if is_full { error.with_help("delete files, or open with a larger workspace") } else { error }
}

/// The path of a file, or an error: relative, without `..`, and not the workspace itself.
fn checked(path: &str) -> Result<&str> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    if path.len() <= MAX_PATH_BYTES && !path.contains('\0') && trimmed.split('/').all(is_plain) {
        Ok(trimmed)
    } else {
        Err(outside(path))
    }
}

/// The same for a folder, which may be the workspace itself.
fn checked_folder(path: &str) -> Result<&str> {
    if matches!(path, "" | "." | "./") { Ok("") } else { checked(path) }
}

fn outside(path: &str) -> Error {
    let shown: String = path.chars().take(200).collect();
    Error::new(ErrorKind::PermissionDenied, format!("{shown:?} is not a path within the workspace"))
        .with_help("give a relative path without \"..\", which no symbolic link leads out of the workspace")
}

fn too_large(path: &str) -> Error {
    Error::new(ErrorKind::LimitExceeded, format!("{path:?} is larger than {} MiB", MAX_FILE_BYTES >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_workspace_are_refused() {
        for path in ["", "/", "/etc/passwd", "..", "../a", "a/../../b", "a//b", "./a", "a/.", "a\0b"] {
            assert_eq!(checked(path).unwrap_err().kind(), ErrorKind::PermissionDenied, "{path:?}");
        }
        for path in ["a", "a/b.txt", "-rf", "a b/ü", "..a", "folder/", "$(id)"] {
            assert!(checked(path).is_ok(), "{path:?}");
        }
        assert_eq!(checked_folder(".").unwrap(), "");
    }
}
