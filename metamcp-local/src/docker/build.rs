//! Installs a server's npm packages in a container and bundles what its bodies import of them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use metamcp_core::bundle::package_modules;
use metamcp_core::{Error, ErrorKind, Module, Result};
use serde_json::json;
use tokio::time::timeout;

use super::Inner;
use super::archive;
use super::container::{Container, NpmCache};
use super::exec::{Output, Program, run};
use super::image::ImageKind;
use super::packages::{KeptPackages, PackageSet};

/// Largest bundle of packages, and most that npm and esbuild say.
const BUNDLE_BYTES: usize = 64 << 20;
/// Lines of messages shown in an error.
const ERROR_LINES: usize = 12;

/// The modules of a set of packages: from the last build that needed them, or from a new container.
pub(super) async fn modules(inner: &Inner, set: &PackageSet<'_>) -> Result<BTreeMap<String, Module>> {
    refuse_unlisted(inner, set.dependencies)?;
    let kept = KeptPackages::of(&inner.folder, set, inner.fingerprint());
    if let Some(modules) = kept.modules() {
        return Ok(modules);
    }
    let _slot = inner.slots.take("building a server with npm packages").await?;
    // Somebody may have built it meanwhile.
    if let Some(modules) = kept.modules() {
        return Ok(modules);
    }
    let limit = inner.config.build_timeout;
    let cache = if inner.config.install_scripts.is_empty() { NpmCache::Shared } else { NpmCache::Own };
    let container = inner.start_container(ImageKind::Build, cache).await?;
    let built = timeout(limit, in_container(inner, &container, set, &kept)).await;
    container.remove().await?;
    let (lockfile, modules) = built.unwrap_or_else(|_| Err(overdue(limit)))?;
    kept.keep(&lockfile, &modules)?;
    Ok(modules)
}

fn refuse_unlisted(inner: &Inner, dependencies: &BTreeMap<String, String>) -> Result<()> {
    let Some(allowed) = &inner.config.allowed_packages else { return Ok(()) };
    let refused: Vec<_> = dependencies.keys().filter(|name| !allowed.contains(*name)).map(String::as_str).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let message = format!("these npm packages are not allowed here: {}", refused.join(", "));
    let allowed: Vec<_> = allowed.iter().map(String::as_str).collect();
    Err(Error::new(ErrorKind::PermissionDenied, message).with_help(format!("allowed are: {}", allowed.join(", "))))
}

/// All steps in one go, since starting a program in a container costs a tenth of a second: unpacks the project from
/// standard input, and writes the lock file and the bundle to standard output. `$1` is an option of npm's, what follows is
/// imported.
const STEPS: &str = r#"
set -f
tar -x -f - || exit 81
npm install --ignore-scripts --omit=dev --no-audit --no-fund $1 >&2 || exit 82
shift
if [ -n "$METAMCP_INSTALL_SCRIPTS_OF" ]; then
  npm rebuild --ignore-scripts=false $METAMCP_INSTALL_SCRIPTS_OF >&2 || exit 83
fi
mkdir out
if [ $# -gt 0 ]; then node /opt/metamcp/bundle.mjs "$@" >&2 || exit 84; fi
exec tar -c -f - package-lock.json out
"#;

async fn in_container(
    inner: &Inner,
    container: &Container,
    set: &PackageSet<'_>,
    kept: &KeptPackages,
) -> Result<(Bytes, BTreeMap<String, Module>)> {
    let package = json!({ "name": "server", "private": true, "type": "module", "dependencies": set.dependencies });
    let mut files = BTreeMap::from([("package.json", Bytes::from(package.to_string()))]);
    let lockfile = kept.lockfile()?;
    // What is locked does not change, so the cache is as good as the registry.
    let option = if lockfile.is_some() { "--prefer-offline" } else { "" };
    files.extend(lockfile.map(|lockfile| ("package-lock.json", lockfile)));
    let packed = archive::pack(files.iter().map(|(path, content)| (*path, content)))?;
    let line = ["sh", "-c", STEPS, "build", option].into_iter().chain(set.imports.iter().map(String::as_str));
    let scripts: Vec<_> = inner.config.install_scripts.iter().map(String::as_str).collect();
    let mut program = Program::new(line).with_input(packed);
    program.variables = vec![format!("METAMCP_INSTALL_SCRIPTS_OF={}", scripts.join(" "))];
    let mut made = archive::unpack(&output_of(container, program).await?)?;
    let lockfile = made.remove("package-lock.json");
    let lockfile = lockfile.ok_or_else(|| Error::new(ErrorKind::BuildFailed, "npm left no lock file"))?;
    let bundle = made
        .into_iter()
        .map(|(path, content)| (path.strip_prefix("out/").map_or(path.clone(), str::to_owned), content));
    Ok((lockfile, package_modules(bundle.collect(), set.imports)?))
}

/// The standard output of the steps, or an error with what the failed one said.
async fn output_of(container: &Container, program: Program) -> Result<Vec<u8>> {
    let mut output = Output::with_limit(BUNDLE_BYTES);
    let code = run(container, program, &mut output).await?;
    if output.is_cut {
        let message = format!("the packages' bundle, or what npm says, is over {} MiB", BUNDLE_BYTES >> 20);
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let what = match code {
        0 => return Ok(output.stdout),
        81 => "unpack the project",
        82 => "npm install",
        83 => "run the install scripts that are allowed",
        84 => "bundle the packages",
        _ => "build the npm packages",
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let said = lines[lines.len().saturating_sub(ERROR_LINES)..].join(" | ");
    let error = Error::new(ErrorKind::BuildFailed, format!("could not {what} (exit code {code}): {said}"));
    Err(if code == 137 || said.contains("Killed") {
        error.with_help("it may have run out of memory: raise the containers' limits")
    } else {
        error
    })
}

fn overdue(limit: Duration) -> Error {
    Error::new(ErrorKind::TimedOut, format!("the npm packages were not built within {} s", limit.as_secs()))
        .with_help("check npm's registry, or raise the build timeout")
}
