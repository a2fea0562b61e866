//! The spans of the builder and of its environments.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::field::Empty;

use super::{traced, verb};
use crate::Result;
use crate::artifact::Artifact;
use crate::builder::{Builder, Command, CommandOutput, Environment, EnvironmentInfo, OutputChunk};
use crate::name::{ServerName, TemplateKind};
use crate::settings::WorkerSettings;
use crate::source_tree::SourceTree;

#[derive(Debug)]
pub(super) struct Traced(pub(super) Arc<dyn Builder>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Builder for Traced {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        traced(verb!(INFO, "build", server = %settings.name), self.0.build(source, settings)).await
    }

    fn fingerprint(&self) -> Option<String> {
        self.0.fingerprint()
    }

    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        let span = verb!(INFO, "create_environment", %server, %template);
        Ok(wrap(traced(span, self.0.create_environment(server, template)).await?))
    }

    async fn environment(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        let span = verb!(DEBUG, "environment", container_id);
        Ok(wrap(traced(span, self.0.environment(container_id)).await?))
    }

    async fn close(&self) -> Result<()> {
        traced(verb!(DEBUG, "close_builder"), self.0.close()).await
    }
}

fn wrap(environment: Arc<dyn Environment>) -> Arc<dyn Environment> {
    Arc::new(TracedEnvironment(environment))
}

#[derive(Debug)]
struct TracedEnvironment(Arc<dyn Environment>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Environment for TracedEnvironment {
    async fn info(&self) -> Result<EnvironmentInfo> {
        traced(verb!(DEBUG, "info"), self.0.info()).await
    }

    async fn exec(&self, command: &Command) -> Result<CommandOutput> {
        let span = verb!(INFO, "exec", exit_code = Empty);
        let output = traced(span.clone(), self.0.exec(command)).await?;
        span.record("exit_code", output.exit_code);
        Ok(output)
    }

    async fn exec_streaming(&self, command: &Command, output: mpsc::Sender<OutputChunk>) -> Result<CommandOutput> {
        let span = verb!(INFO, "exec", exit_code = Empty);
        let finished = traced(span.clone(), self.0.exec_streaming(command, output)).await?;
        span.record("exit_code", finished.exit_code);
        Ok(finished)
    }

    async fn write_file(&self, path: &str, content: Bytes) -> Result<()> {
        traced(verb!(DEBUG, "write_file", path, bytes = content.len()), self.0.write_file(path, content)).await
    }

    async fn read_file(&self, path: &str) -> Result<Bytes> {
        traced(verb!(DEBUG, "read_file", path), self.0.read_file(path)).await
    }

    async fn list_files(&self, path: &str) -> Result<Vec<String>> {
        traced(verb!(DEBUG, "list_files", path), self.0.list_files(path)).await
    }

    async fn delete_file(&self, path: &str) -> Result<()> {
        traced(verb!(DEBUG, "delete_file", path), self.0.delete_file(path)).await
    }

    async fn destroy(&self) -> Result<()> {
        traced(verb!(INFO, "destroy"), self.0.destroy()).await
    }
}
