//! Validation for async callers: off the threads that drive their tasks, since it parses every body on a thread that it
//! waits for.

use crate::definition::ServerDefinition;
use crate::validate::{ValidDefinition, ValidationErrors, validate};
use crate::{Error, ErrorKind, Result};

/// [`validate`] for async callers.
pub(crate) async fn validated(definition: ServerDefinition) -> Result<ValidDefinition> {
    off_thread(move || validate(&definition)).await
}

/// [`validate_json`](crate::validate_json) for async callers.
#[cfg(feature = "server")]
pub(crate) async fn validated_json(definition: serde_json::Value) -> Result<ValidDefinition> {
    off_thread(move || crate::validate_json(&definition)).await
}

async fn off_thread(
    check: impl FnOnce() -> Result<ValidDefinition, ValidationErrors> + Send + 'static,
) -> Result<ValidDefinition> {
    let checked = tokio::task::spawn_blocking(check).await;
    let checked =
        checked.map_err(|error| Error::new(ErrorKind::Unexpected, "the validation broke down").with_source(error))?;
    Ok(checked?)
}
