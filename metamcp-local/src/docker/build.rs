//! Installs a server's npm packages in a container and bundles what its bodies import of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use metamcp_core::{Error, ErrorKind, Module, ModuleKind, Result};
use serde_json::json;
use tokio::time::timeout;

use super::Inner;
use super::archive;
use super::container::{Container, NpmCache};
use super::exec::{Output, Program, run};
use super::image::ImageKind;
use super::packages::{KeptPackages, PackageSet};

/// Where the tree stands in an artifact: beside the bodies, since that is where their imports are looked for.
const BODIES: &str = "bodies/";
/// What is kept of npm's and esbuild's messages.
const MESSAGE_BYTES: usize = 256 * 1024;
/// Largest bundle of packages.
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

async fn in_container(
    inner: &Inner,
    container: &Container,
    set: &PackageSet<'_>,
    kept: &KeptPackages,
) -> Result<(Bytes, BTreeMap<String, Module>)> {
    let package = json!({ "name": "server", "private": true, "type": "module", "dependencies": set.dependencies });
    let mut files = BTreeMap::from([("package.json", Bytes::from(package.to_string()))]);
    let lockfile = kept.lockfile()?;
    let is_locked = lockfile.is_some();
    files.extend(lockfile.map(|lockfile| ("package-lock.json", lockfile)));
    let packed = archive::pack(files.iter().map(|(path, content)| (*path, content)))?;
    step(container, "unpack the project", Program::new(["tar", "-x", "-f", "-"]).with_input(packed)).await?;

    let mut install = vec!["npm", "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"];
    if is_locked {
        install.push("--prefer-offline");
    }
    step(container, "npm install", Program::new(install)).await?;
    let scripts: Vec<_> = inner.config.install_scripts.iter().map(String::as_str).collect();
    if !scripts.is_empty() {
        let rebuild = ["npm", "rebuild", "--ignore-scripts=false"].into_iter().chain(scripts);
        step(container, "run the install scripts that are allowed", Program::new(rebuild)).await?;
    }
    let lockfile = step(container, "read the lock file", Program::new(["cat", "package-lock.json"])).await?;
    let modules = if set.imports.is_empty() { BTreeMap::new() } else { bundle(container, set.imports).await? };
    Ok((lockfile.into(), modules))
}

async fn bundle(container: &Container, imports: &BTreeSet<String>) -> Result<BTreeMap<String, Module>> {
    let line = ["node", "/opt/metamcp/bundle.mjs"].into_iter().chain(imports.iter().map(String::as_str));
    step(container, "bundle the packages", Program::new(line)).await?;
    let packed = step(container, "read the bundle", Program::new(["tar", "-c", "-C", "out", "-f", "-", "."])).await?;
    let mut modules = BTreeMap::new();
    for (path, content) in archive::unpack(&packed)? {
        // `import("zod")` in `bodies/x.js` finds the module `bodies/zod`.
        let name = match path.strip_prefix(BODIES).and_then(|rest| rest.strip_suffix(".js")) {
            Some(specifier) if imports.contains(specifier) => format!("{BODIES}{specifier}"),
            _ if path.starts_with("packages/") => path,
            _ => {
                return Err(Error::new(
                    ErrorKind::BuildFailed,
                    format!("the bundle holds {path:?}, which is not ours"),
                ));
            }
        };
        modules.insert(name, Module { kind: ModuleKind::EsModule, content });
    }
    match imports.iter().find(|specifier| !modules.contains_key(&format!("{BODIES}{specifier}"))) {
        Some(missing) => Err(Error::new(ErrorKind::BuildFailed, format!("the bundle lacks {missing:?}"))),
        None => Ok(modules),
    }
}

/// One program of a build: its standard output, or an error with what it said.
async fn step(container: &Container, what: &str, program: Program) -> Result<Vec<u8>> {
    let mut output = Output::with_limit(BUNDLE_BYTES.max(MESSAGE_BYTES));
    let code = run(container, program, &mut output).await?;
    if code == 0 && !output.is_cut {
        return Ok(output.stdout);
    }
    if output.is_cut {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("{what}: the output is over {} MiB", BUNDLE_BYTES >> 20),
        ));
    }
    let said = output.tail(ERROR_LINES);
    let error = Error::new(ErrorKind::BuildFailed, format!("could not {what} (exit code {code}): {said}"));
    Err(if code == 137 {
        error.with_help("it may have run out of memory: raise the containers' limits")
    } else {
        error
    })
}

fn overdue(limit: Duration) -> Error {
    Error::new(ErrorKind::TimedOut, format!("the npm packages were not built within {} s", limit.as_secs()))
        .with_help("check npm's registry, or raise the build timeout")
}
