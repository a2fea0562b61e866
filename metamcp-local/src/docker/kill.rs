//! Ends every command in a container, whatever it forked and whichever signals it ignores.

use std::time::Duration;

use bollard::models::ContainerUpdateBody;
use metamcp_core::{Error, ErrorKind, Result};
use tokio::time::timeout;

use super::container::Container;
use super::exec::{Output, Program, run};

/// A kill takes as long as starting a process.
const LIMIT: Duration = Duration::from_secs(15);
/// Each try makes room for more processes than a fork bomb may have.
const TRIES: i64 = 5;
const ROOM: i64 = 64;

/// Kills all processes of the commands' user. The container's first process, which is another user's, reaps them.
///
/// Where a fork bomb leaves no room for one process more, the container's limit is raised for the moment.
pub(super) async fn all_commands(container: &Container) -> Result<()> {
    let mut last = Error::new(ErrorKind::Unavailable, "the command's processes could not be ended");
    for attempt in 0..TRIES {
        if attempt > 0 {
            set_pids(container, attempt * ROOM).await?;
        }
        // `kill` is built into the shell, and -1 spares the shell itself.
        let program = Program::new(["sh", "-c", "kill -KILL -1; exit 0"]);
        let mut output = Output::with_limit(4096);
        match timeout(LIMIT, run(container, program, &mut output)).await {
            Ok(Ok(0)) => {
                return if attempt > 0 { set_pids(container, 0).await } else { Ok(()) };
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => last = error,
            Err(_) => last = Error::new(ErrorKind::TimedOut, "the command's processes could not be ended in time"),
        }
    }
    Err(last.with_help("destroy the environment"))
}

async fn set_pids(container: &Container, more: i64) -> Result<()> {
    let engine = container.engine();
    let limit = container.pids() + more;
    let update = ContainerUpdateBody { pids_limit: Some(limit), ..ContainerUpdateBody::default() };
    engine.call("change a container's limits", engine.docker().update_container(container.id(), update)).await
}
