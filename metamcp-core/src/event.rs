//! What a deployment reports while it runs.

use futures::Stream;
use serde::Serialize;
use tokio::sync::mpsc;
use url::Url;

use crate::name::VersionId;
use crate::registry::Revision;
use crate::source_tree::Digest;
use crate::verify::Verification;

/// One thing that happened in a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
#[non_exhaustive]
pub enum DeployEvent {
    /// Something else deploys, tests, changes or removes the server, and its end is waited for. Reported once.
    Waiting,
    /// The server's lease is held; nothing has changed yet.
    Started {
        /// The revision being deployed.
        revision: Revision,
    },
    /// The project was generated.
    Generated {
        /// Number of its files.
        files: usize,
        /// Digest of all of them.
        digest: Digest,
    },
    /// All of the builder's containers are in use, and the build waits for one. Reported at every change.
    Queued {
        /// Its place in line; 1 is the next.
        place: usize,
    },
    /// The artifact is ready.
    Built {
        /// Its digest.
        artifact: Digest,
        /// Whether it came from the build cache.
        cached: bool,
    },
    /// The live version already is this artifact: nothing more to do.
    Unchanged {
        /// The live version.
        version: VersionId,
    },
    /// The version is uploaded and not yet live.
    Staged {
        /// The publisher's name for it.
        version: VersionId,
    },
    /// The preview answers as the definition says.
    Verified(Verification),
    /// The version is live.
    Activated {
        /// The version.
        version: VersionId,
        /// Where it answers.
        url: Url,
    },
    /// The live endpoint answers as the definition says.
    Confirmed(Verification),
    /// The version that was live before is live again.
    Returned {
        /// That version.
        version: VersionId,
    },
    /// The staged version was removed.
    Discarded {
        /// That version.
        version: VersionId,
    },
}

/// Where events go. The default drops them.
#[derive(Debug, Clone, Default)]
pub struct EventSink(Option<mpsc::UnboundedSender<DeployEvent>>);

impl EventSink {
    /// A sink and the stream of what goes into it. The stream ends with the deployment. A deployment has at most
    /// ten events, and one for each place in a builder's line, so the channel needs no bound.
    pub fn channel() -> (Self, impl Stream<Item = DeployEvent> + Send + Unpin) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            let event = receiver.recv().await?;
            Some((event, receiver))
        });
        (Self(Some(sender)), Box::pin(stream))
    }

    pub(crate) fn send(&self, event: DeployEvent) {
        tracing::debug!(?event, "deployment");
        if let Some(sender) = &self.0 {
            // A receiver that is gone does not stop the deployment.
            let _gone = sender.send(event);
        }
    }
}
