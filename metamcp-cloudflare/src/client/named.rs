//! Things of an account that are found by their name and made where they are not there.

use metamcp_core::{ErrorKind, Result};
use reqwest::Method;
use serde::Deserialize;

use super::{Call, Client, Repeat};

/// A list of an account's things of one kind, each under a name of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Collection {
    /// Below the account.
    pub(crate) path: &'static str,
    /// What the API calls the name.
    pub(crate) name_field: &'static str,
    /// Whether the list can be asked for a name, or a part of one.
    pub(crate) has_filter: bool,
    /// How many the API lists at once.
    pub(crate) per_page: usize,
}

#[derive(Deserialize)]
struct Named {
    #[serde(alias = "uuid")]
    id: String,
    #[serde(alias = "title")]
    name: String,
}

impl Client {
    /// The id of the one of this name; it is created if there is none.
    pub(crate) async fn find_or_create(&self, collection: Collection, name: &str) -> Result<String> {
        if let Some(id) = self.find(collection, name).await? {
            return Ok(id);
        }
        let body = serde_json::json!({ collection.name_field: name });
        // Repeated after a lost answer it says that the name is taken: by the first attempt, or by another program.
        let call = Call::new(Method::POST, collection.path, Repeat::Safe).with_json(&body);
        match self.call::<Named>(&call).await {
            Ok(answer) => Ok(answer.result.id),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.find(collection, name).await?.ok_or(error),
            Err(error) => Err(error),
        }
    }

    async fn find(&self, collection: Collection, name: &str) -> Result<Option<String>> {
        for page in 1.. {
            let mut call = Call::get(collection.path)
                .with_query("page", page.to_string())
                .with_query("per_page", collection.per_page.to_string());
            if collection.has_filter {
                call = call.with_query(collection.name_field, name);
            }
            let listed: Vec<Named> = self.call(&call).await?.result;
            let is_last = listed.len() < collection.per_page;
            if let Some(found) = listed.into_iter().find(|listed| listed.name == name) {
                return Ok(Some(found.id));
            }
            if is_last {
                break;
            }
        }
        Ok(None)
    }
}
