//! [`Environments`]: isolated places where commands run, beside what a deployment needs.

use std::sync::Arc;
use std::time::Duration;

use crate::builder::{Command, CommandOutput, Environment};
use crate::codegen::generate;
use crate::connection::effective;
use crate::meta_mcp::Backends;
use crate::name::{ServerKey, TemplateKind};
use crate::registry::ServerRecord;
use crate::trace::{traced, verb};
use crate::validated::validated;
use crate::{ErrorKind, Result};

/// How long a build by hand may take.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// Isolated environments of the builder. Cheap to clone.
///
/// ```
/// # use std::time::Duration;
/// # use metamcp_core::{Command, MetaMcp, ServerKey};
/// # async fn build(meta: &MetaMcp, key: &ServerKey) -> metamcp_core::Result<()> {
/// let environment = meta.environments().create(key, None).await?;
/// let output = environment.exec(&Command::new("node --version", Duration::from_secs(10))).await?;
/// assert!(output.success(), "{}", output.stderr);
/// environment.destroy().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Environments {
    backends: Arc<Backends>,
}

impl Environments {
    pub(crate) fn new(backends: Arc<Backends>) -> Self {
        Self { backends }
    }

    /// An environment for a server, with the files of its template, or of another one.
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the builder has no containers;
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if all of them are taken for long.
    pub async fn create(&self, key: &ServerKey, template: Option<TemplateKind>) -> Result<Arc<dyn Environment>> {
        traced(verb!(INFO, "environments.create", server = %key), async move {
            let record = self.backends.registry.get_server(key).await?;
            let template = match template {
                Some(template) => template,
                None => validated(record.definition.clone()).await?.template(),
            };
            let environment = self.backends.builder.create_environment(&record.name, template).await?;
            let noted = async {
                let id = environment.info().await?.container_id;
                self.backends.registry.put_container(record.id, Some(id)).await
            };
            if let Err(error) = noted.await {
                // Nobody would know its id.
                if let Err(error) = environment.destroy().await {
                    tracing::warn!(%error, "an environment that nobody knows of could not be removed");
                }
                return Err(error);
            }
            Ok(environment)
        })
        .await
    }

    /// Id of the environment that was made for a server last, if it is still there.
    pub async fn of(&self, server: &ServerRecord) -> Option<String> {
        let id = server.container_id.clone()?;
        match self.get(&id).await {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => None,
            // A builder that cannot answer now does not make it gone.
            _ => Some(id),
        }
    }

    /// An environment that exists; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) otherwise.
    pub async fn get(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        traced(verb!(DEBUG, "environments.get", container_id), self.backends.builder.environment(container_id)).await
    }

    /// Writes a server's generated project into an environment, installs its packages and checks it as its author
    /// would: with its own `check` script. A failed check is an `Ok` output with its exit code.
    pub async fn build(&self, container_id: &str, key: &ServerKey) -> Result<CommandOutput> {
        traced(verb!(INFO, "environments.build", server = %key, container_id), async move {
            let environment = self.get(container_id).await?;
            let record = self.backends.registry.get_server(key).await?;
            for (path, content) in generate(&effective(&self.backends, &record).await?)?.iter() {
                environment.write_file(path, content.clone()).await?;
            }
            let line = "npm install --ignore-scripts --no-audit --no-fund && npm run check";
            environment.exec(&Command::new(line, BUILD_LIMIT)).await
        })
        .await
    }
}
