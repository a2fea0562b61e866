//! The publisher's spans.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tracing::field::{Empty, display};

use super::{traced, verb};
use crate::Result;
use crate::artifact::Artifact;
use crate::name::{EnvName, VersionId};
use crate::publisher::{
    Endpoint, LogLine, LogListener, LogOptions, PublishedServer, PublishedVersion, Publisher, ServerRef, Staged,
};

#[derive(Debug)]
pub(super) struct Traced(pub(super) Arc<dyn Publisher>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Publisher for Traced {
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        let span = verb!(INFO, "stage", server = %server.name, id = %server.id, version = Empty);
        let staged = traced(span.clone(), self.0.stage(server, artifact)).await?;
        span.record("version", display(&staged.version));
        Ok(staged)
    }

    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        let span = verb!(INFO, "activate", server = %server.name, id = %server.id, %version);
        traced(span, self.0.activate(server, version)).await
    }

    fn settle_time(&self) -> Duration {
        self.0.settle_time()
    }

    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()> {
        let span = verb!(INFO, "discard", server = %server.name, id = %server.id, %version);
        traced(span, self.0.discard(server, version)).await
    }

    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>> {
        traced(verb!(DEBUG, "list_versions", server = %server.name), self.0.list_versions(server)).await
    }

    async fn list_servers(&self) -> Result<Vec<PublishedServer>> {
        traced(verb!(DEBUG, "list_servers"), self.0.list_servers()).await
    }

    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint> {
        traced(verb!(DEBUG, "endpoint", server = %server.name), self.0.endpoint(server)).await
    }

    async fn logs(&self, server: &ServerRef, options: LogOptions) -> Result<Vec<LogLine>> {
        traced(verb!(DEBUG, "logs", server = %server.name), self.0.logs(server, options)).await
    }

    async fn listen(&self, server: &ServerRef, version: &VersionId) -> Result<Option<Box<dyn LogListener>>> {
        traced(verb!(DEBUG, "listen", server = %server.name, %version), self.0.listen(server, version)).await
    }

    async fn unpublish(&self, server: &ServerRef) -> Result<()> {
        let span = verb!(INFO, "unpublish", server = %server.name, id = %server.id);
        traced(span, self.0.unpublish(server)).await
    }

    async fn set_secret(&self, server: &ServerRef, name: &EnvName, value: SecretString) -> Result<()> {
        let span = verb!(INFO, "set_secret", server = %server.name, id = %server.id, secret = %name);
        traced(span, self.0.set_secret(server, name, value)).await
    }

    async fn remove_secret(&self, server: &ServerRef, name: &EnvName) -> Result<()> {
        let span = verb!(INFO, "remove_secret", server = %server.name, id = %server.id, secret = %name);
        traced(span, self.0.remove_secret(server, name)).await
    }

    async fn list_secret_names(&self, server: &ServerRef) -> Result<Vec<EnvName>> {
        traced(verb!(DEBUG, "list_secret_names", server = %server.name), self.0.list_secret_names(server)).await
    }

    async fn close(&self) -> Result<()> {
        traced(verb!(DEBUG, "close_publisher"), self.0.close()).await
    }
}
