//! The two Workers of the account that a namespace's servers need: the dispatcher, which has the URL, and the outbound
//! Worker, which everything they request goes through.

use metamcp_core::{EgressLists, Error, ErrorKind, Result};
use serde_json::json;

use super::super::account::Account;
use super::super::api::Exposure;
use super::super::upload::Upload;

const DISPATCHER: &str = include_str!("../../../dispatcher/dispatcher.js");
const OUTBOUND: &str = include_str!("../../../dispatcher/outbound.js");

/// The two Workers of one namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front<'a> {
    pub(super) account: &'a Account,
    pub(super) namespace: &'a str,
}

impl Front<'_> {
    pub(super) fn dispatcher_name(&self) -> String {
        format!("{}-dispatcher", self.namespace)
    }

    fn outbound_name(&self) -> String {
        format!("{}-outbound", self.namespace)
    }

    /// Makes them where they are missing, or of another release than this.
    pub(super) async fn ensure(&self) -> Result<()> {
        // First what the other one is bound to.
        self.ensure_worker(&self.outbound_name(), self.outbound()).await?;
        self.ensure_worker(&self.dispatcher_name(), self.dispatcher()).await?;
        // Also of one that is there: whoever uploaded it may not have come so far.
        let exposure = Exposure { enabled: true, previews: false };
        self.account.scripts.expose(&self.dispatcher_name(), exposure).await
    }

    /// Removes them.
    pub(super) async fn remove(&self) -> Result<()> {
        for name in [self.dispatcher_name(), self.outbound_name()] {
            let tags = self.account.scripts.tags(&name).await?;
            if tags.is_some_and(|tags| tags.contains(&self.tag())) {
                self.account.scripts.remove(&name).await?;
            }
        }
        Ok(())
    }

    /// What makes them ours.
    fn tag(&self) -> String {
        self.account.tag(format_args!("front-{}", self.namespace))
    }

    async fn ensure_worker(&self, name: &str, upload: Upload) -> Result<()> {
        let (ours, release) = (self.tag(), format!("metamcp-release:{}", upload.digest().short(16)));
        match self.account.scripts.tags(name).await? {
            Some(tags) if !tags.contains(&ours) => {
                let message = format!("the account has a Worker {name:?} that does not serve this registry's servers");
                Err(Error::new(ErrorKind::AlreadyExists, message)
                    .with_help("choose another dispatch namespace, or remove the Worker"))
            }
            Some(tags) if tags.contains(&release) => Ok(()),
            _ => self.account.scripts.put(name, &upload.with_tag(ours).with_tag(release)).await,
        }
    }

    fn dispatcher(&self) -> Upload {
        let outbound = json!({ "worker": { "service": self.outbound_name() }, "params": [{ "name": "server" }] });
        let binding = json!({
            "type": "dispatch_namespace", "name": "DISPATCHER", "namespace": self.namespace, "outbound": outbound
        });
        Upload::of_source(DISPATCHER, vec![binding])
    }

    fn outbound(&self) -> Upload {
        let database = self.account.registry_id();
        Upload::of_source(OUTBOUND, vec![json!({ "type": "d1", "name": "DATABASE", "database_id": database })])
            .with_source("egress_matcher.js", EgressLists::MATCHER)
    }
}
