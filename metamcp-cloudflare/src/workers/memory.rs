//! What a publisher remembers of its servers, so that it asks Cloudflare less. Whatever it forgets it asks for again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metamcp_core::{Artifact, ServerId, VersionId};

use super::api::{Exposure, Version};

/// Servers that are remembered; beyond that it begins anew.
const SERVERS: usize = 10_000;
/// Artifacts that were staged and wait to be activated.
const STAGED: usize = 4;

/// Shared by the clones of a publisher.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    servers: BTreeMap<ServerId, Known>,
    staged: VecDeque<(VersionId, StagedVersion)>,
}

/// What was staged.
#[derive(Debug)]
pub(super) struct StagedVersion {
    pub(super) artifact: Artifact,
    /// Its upload, where it was uploaded already.
    pub(super) upload: Option<String>,
}

#[derive(Debug)]
struct Known {
    /// An upload of its script, from when that was seen to be ours. Ids of uploads are never used again, so a script
    /// that has this one still is that script, and not another one of its name.
    upload: String,
    exposure: Option<Exposure>,
    /// Its Durable Object classes when they were last asked for.
    classes: Option<BTreeSet<String>>,
}

impl Memory {
    /// A server's script was seen to be ours, with this upload. It may be another one than before: nothing else is known
    /// of it.
    pub(super) fn owns(&self, server: ServerId, upload: String) {
        let mut state = self.state();
        if state.servers.len() >= SERVERS {
            state.servers.clear();
        }
        state.servers.insert(server, Known { upload, exposure: None, classes: None });
    }

    /// Whether these uploads are those of a script that was seen to be ours.
    pub(super) fn recognizes(&self, server: ServerId, uploads: &[Version]) -> bool {
        let state = self.state();
        state.servers.get(&server).is_some_and(|known| uploads.iter().any(|upload| upload.id == known.upload))
    }

    /// Which of its host names answer, if that is remembered.
    pub(super) fn exposure(&self, server: ServerId) -> Option<Exposure> {
        self.state().servers.get(&server)?.exposure
    }

    /// Its host names were made to answer.
    pub(super) fn exposed(&self, server: ServerId, exposure: Exposure) {
        if let Some(known) = self.state().servers.get_mut(&server) {
            known.exposure = Some(exposure);
        }
    }

    /// Its Durable Object classes, if they are remembered.
    pub(super) fn classes(&self, server: ServerId) -> Option<BTreeSet<String>> {
        self.state().servers.get(&server)?.classes.clone()
    }

    /// Its Durable Object classes were seen, all of them.
    pub(super) fn has_classes(&self, server: ServerId, classes: BTreeSet<String>) {
        if let Some(known) = self.state().servers.get_mut(&server) {
            known.classes = Some(classes);
        }
    }

    /// Its script got these classes as well.
    pub(super) fn got_classes(&self, server: ServerId, new: &BTreeSet<&str>) {
        if let Some(Known { classes: Some(known), .. }) = self.state().servers.get_mut(&server) {
            known.extend(new.iter().map(|class| (*class).to_owned()));
        }
    }

    /// Something went wrong: ask again.
    pub(super) fn forget(&self, server: ServerId) {
        self.state().servers.remove(&server);
    }

    /// A version that will be activated soon.
    pub(super) fn staged(&self, version: VersionId, staged: StagedVersion) {
        let mut state = self.state();
        if state.staged.len() >= STAGED {
            state.staged.pop_front();
        }
        state.staged.push_back((version, staged));
    }

    /// A staged version, once.
    pub(super) fn take_staged(&self, version: &VersionId) -> Option<StagedVersion> {
        let mut state = self.state();
        let at = state.staged.iter().position(|(staged, _)| staged == version)?;
        state.staged.remove(at).map(|(_, staged)| staged)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
