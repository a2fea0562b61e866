//! [`Servers`]: definitions in the registry.

use std::sync::Arc;

use crate::Result;
use crate::codegen::generate;
use crate::definition::ServerDefinition;
use crate::meta_mcp::Backends;
use crate::name::ServerKey;
use crate::registry::{Expect, ListOptions, Page, ServerRecord, ServerSummary};
use crate::source_tree::SourceTree;
use crate::validate::validate;

/// Definitions: create, read, change, list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Servers {
    backends: Arc<Backends>,
}

impl Servers {
    pub(crate) fn new(backends: Arc<Backends>) -> Self {
        Self { backends }
    }

    /// Records a new server. Recording the same definition twice is a no-op.
    ///
    /// [`ErrorKind::InvalidDefinition`](crate::ErrorKind::InvalidDefinition) with every problem;
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the name is taken by another definition.
    pub async fn create(&self, definition: &ServerDefinition) -> Result<ServerRecord> {
        self.backends.registry.put_server(&validate(definition)?, Expect::Absent).await
    }

    /// A server with its working definition; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn get(&self, key: &ServerKey) -> Result<ServerRecord> {
        self.backends.registry.get_server(key).await
    }

    /// Servers in order of names, page by page.
    pub async fn list(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        self.backends.registry.list_servers(options).await
    }

    /// Changes a definition: reads it, applies `edit` (such as one of [`edit`](crate::edit)), checks the result and
    /// writes it if nobody else changed it meanwhile. What is live stays as it is until the next deploy.
    ///
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if somebody did: call again.
    pub async fn edit<F>(&self, key: &ServerKey, edit: F) -> Result<ServerRecord>
    where
        F: FnOnce(&ServerDefinition) -> Result<ServerDefinition>,
    {
        let record = self.backends.registry.get_server(key).await?;
        let edited = edit(&record.definition)?;
        if edited.name != record.definition.name {
            return Err(crate::Error::new(
                crate::ErrorKind::Unsupported,
                format!("server {} cannot be renamed to {:?}", record.name, edited.name),
            )
            .with_help("its name is part of its URL: create a new server and remove this one"));
        }
        self.backends.registry.put_server(&validate(&edited)?, Expect::Revision(record.revision)).await
    }

    /// The project that is generated from the working definition: all of its files.
    pub async fn code(&self, key: &ServerKey) -> Result<SourceTree> {
        let record = self.backends.registry.get_server(key).await?;
        generate(&validate(&record.definition)?)
    }
}
