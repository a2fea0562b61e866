//! [`ServerContainers`]: workerd in a container, for [`Isolation::Docker`](crate::Isolation::Docker).
//!
//! The container's standard input is tied to this process: it ends when this process does, and is removed by the engine.

mod attached;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use bollard::models::{ContainerCreateBody, HostConfig};
use metamcp_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::config::{ContainerLimits, DockerConfig};
use super::container::{self, Container};
use super::engine::Engine;
use super::image::{ImageKind, Images};
use super::npm::NpmRegistry;
use super::reap;
use super::roster::Sweeper;
use crate::owner::make_private_folder;
use crate::workerd::{End, Supervised, storage_error};

/// What the container needs beside workerd: the shell, and `/tmp`.
const OWN_MEMORY_MB: u64 = 64;
const TMP_MB: u64 = 16;
/// User of the containers if the owner is root, who may not be in them: nobody's, as in images without users.
const USER_OF_ROOT: u32 = 65_532;
/// Telling its version takes workerd a moment.
const TRIAL_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Starts containers with workerd in them.
#[derive(Debug)]
pub(crate) struct ServerContainers {
    engine: Engine,
    images: Images,
    limits: ContainerLimits,
    folder: PathBuf,
    user: u32,
    owner_is_root: bool,
    _sweeper: Sweeper,
    _lock: File,
}

/// What runs in a container. All paths are the same inside as outside.
pub(crate) struct ServerPlan<'a> {
    /// Program and arguments.
    pub(crate) line: Vec<OsString>,
    /// Variables that nobody can read off the container.
    pub(crate) environment: &'a [(String, SecretString)],
    /// Files and folders it can only read.
    pub(crate) readable: Vec<PathBuf>,
    /// Folders it can write to; made if they are absent.
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) memory_mb: u64,
}

impl ServerContainers {
    /// Connects to the engine, removes what dead owners left there, and tries whether it can run workerd.
    ///
    /// `user` owns the files that servers read. [`ErrorKind::ConfigInvalid`] says what is missing;
    /// [`ErrorKind::Unsupported`] if the engine has other users in containers than outside.
    pub(crate) async fn open(folder: &Path, config: &DockerConfig, user: u32, workerd: &Path) -> Result<Self> {
        if !cfg!(target_os = "linux") {
            return Err(unsupported("this system runs containers in a virtual machine, which shares no sockets"));
        }
        let engine = Engine::connect(config.host.as_deref()).await?;
        refuse_mapped_users(&engine).await?;
        make_private_folder(folder)?;
        let lock = reap::own(folder)?;
        reap::reap(&engine, folder).await?;
        let registry = NpmRegistry::of_this_user().await?;
        let owner_is_root = user == 0;
        let containers = Self {
            images: Images::new(config.base_image.clone(), registry.url.to_string(), folder)?,
            _sweeper: Sweeper::start(&engine, folder.to_owned()),
            engine,
            limits: config.limits,
            folder: folder.to_owned(),
            user: if owner_is_root { USER_OF_ROOT } else { user },
            owner_is_root,
            _lock: lock,
        };
        containers.try_workerd(workerd, &config.base_image).await?;
        Ok(containers)
    }

    /// Starts a container. If this future is dropped, nothing stays.
    pub(crate) async fn start(&self, plan: ServerPlan<'_>) -> Result<Supervised> {
        for folder in &plan.writable {
            match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(storage_error("make", folder, error));
                }
                _ => {}
            }
        }
        if self.owner_is_root {
            plan.readable.iter().try_for_each(|path| give(path, self.user, Access::Read))?;
            plan.writable.iter().try_for_each(|path| give(path, self.user, Access::Write))?;
        }
        let image = self.images.ensure(&self.engine, ImageKind::Build).await?;
        let introduction = introduction(plan.environment);
        let container = Container::make(&self.engine, self.body(image, &plan)?).await?;
        attached::run(container, introduction).await
    }

    fn body(&self, image: String, plan: &ServerPlan<'_>) -> Result<ContainerCreateBody> {
        let script = ["sh", "-c", include_str!("serve.sh"), "metamcp-server"].map(str::to_owned);
        let line = plan.line.iter().map(|argument| utf8(Path::new(argument)));
        let command = script.into_iter().map(Ok).chain(line).collect::<Result<Vec<_>>>()?;
        let mut mounts = Vec::new();
        for path in &plan.readable {
            let path = utf8(path)?;
            mounts.push(container::bind(path.clone(), &path));
        }
        for path in &plan.writable {
            let path = utf8(path)?;
            mounts.push(bollard::models::Mount { read_only: Some(false), ..container::bind(path.clone(), &path) });
        }
        let limits = ContainerLimits { memory_mb: plan.memory_mb + OWN_MEMORY_MB, ..self.limits };
        let host_config = HostConfig {
            auto_remove: Some(true),
            mounts: Some(mounts),
            tmpfs: Some([("/tmp".to_owned(), container::tmpfs(TMP_MB, self.user))].into()),
            ..container::locked_down(limits)
        };
        Ok(ContainerCreateBody {
            image: Some(image),
            labels: Some(reap::labels(&self.folder)),
            user: Some(format!("{0}:{0}", self.user)),
            working_dir: Some("/tmp".to_owned()),
            cmd: Some(command),
            stop_signal: Some("SIGKILL".to_owned()),
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        })
    }

    /// A base image without glibc, or an engine that does not see this machine's files, is found out at once.
    async fn try_workerd(&self, workerd: &Path, image: &str) -> Result<()> {
        let plan = ServerPlan {
            line: vec![workerd.into(), "--version".into()],
            environment: &[],
            readable: vec![workerd.to_owned()],
            writable: Vec::new(),
            memory_mb: 128,
        };
        let Supervised { output, lifeline, end, .. } = self.start(plan).await?;
        let (mut said, mut output) = (Vec::new(), output.take(4096));
        let tried = timeout(TRIAL_LIMIT, async { tokio::join!(end, output.read_to_end(&mut said)).0 }).await;
        drop(lifeline);
        if let Ok(End::Code(0)) = tried {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let message = format!("workerd does not run in a container of the image {image:?}: {}", said.trim());
        Err(Error::new(ErrorKind::ConfigInvalid, message).with_help(
            "it needs glibc 2.35 or later: choose a base image such as node:22-bookworm-slim (Alpine has none), and an \
             engine on this machine",
        ))
    }
}

/// Where users are mapped, files that only their user can read are not read in a container.
async fn refuse_mapped_users(engine: &Engine) -> Result<()> {
    let info = engine.call("ask the engine about itself", engine.docker().info()).await?;
    let is_mapped = |option: &String| option.contains("name=rootless") || option.contains("name=userns");
    if info.security_options.unwrap_or_default().iter().any(is_mapped) {
        return Err(unsupported("the Docker engine maps users (rootless, or userns-remap)"));
    }
    Ok(())
}

fn unsupported(why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("isolation by Docker does not work here: {why}"))
        .with_help("choose Isolation::Bubblewrap, or an engine of the system's own")
}

/// Makes a file another user's, or a folder with everything in it; what everybody may read needs no such thing if it is
/// only to be read.
fn give(path: &Path, user: u32, access: Access) -> Result<()> {
    let failed = |error| storage_error("give to the container's user", path, error);
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let is_open = access == Access::Read && metadata.is_file() && metadata.mode() & 0o004 != 0;
    if metadata.uid() != user && !is_open {
        lchown(path, Some(user), Some(user)).map_err(failed)?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            give(&entry.map_err(failed)?.path(), user, access)?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// What the container's first process reads: assignments, one a line, and the word that begins it.
fn introduction(environment: &[(String, SecretString)]) -> SecretString {
    let mut text = String::new();
    for (name, value) in environment {
        let value = value.expose_secret().replace('\'', r"'\''").replace('\n', r#"'"$nl"'"#);
        text.extend([name, "='", &value, "'\n"]);
    }
    text.push_str("run\n");
    text.into()
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, format!("the path {} is not UTF-8", path.display()))
            .with_help("choose another data directory")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_secret_reaches_the_program_as_it_is() {
        let value = "it's \"$HOME\" `id` $(id) \\n \\\nsecond line\n\n\ttab \r ü é😀; exit 1 # run\nrun\n";
        let mut child = Command::new("sh")
            .args(["-c", include_str!("serve.sh"), "sh", "printenv", "SECRET"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = introduction(&[("SECRET".to_owned(), SecretString::from(value))]);
        stdin.write_all(text.expose_secret().as_bytes()).unwrap();
        // Its end comes with that of its owner.
        let mut told = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut told).unwrap();
        assert_eq!(told, "exit 0\n");
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("{value}\n"));
    }
}
