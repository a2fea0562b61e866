//! Values of secrets: they go in and never come back.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Done, OneServer};
use crate::name::EnvName;
use crate::server::call::{Call, ServerArg};
use crate::{Error, ErrorKind, Result};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct SetSecret {
    server_id: ServerArg,
    name: String,
    #[schemars(with = "Option<String>")]
    value: Option<SecretString>,
    /// Instead of value: an environment variable that the host offers
    from_env: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct RemoveSecret {
    server_id: ServerArg,
    name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct SecretNames {
    secrets: Vec<SecretState>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SecretState {
    name: String,
    has_value: bool,
}

pub(in crate::server) async fn set(call: Call, params: SetSecret) -> Result<Done> {
    let key = call.server(&params.server_id).await?;
    let (name, secrets) = (env_name(&params.name)?, call.meta.secrets());
    match (params.value, params.from_env) {
        (Some(value), None) => secrets.set(&key, &name, value).await?,
        (None, Some(variable)) => {
            // What the host offers is not about one server.
            call.unlimited()?;
            secrets.set_from_host(&key, &name, &env_name(&variable)?).await?;
        }
        // Without both, the value was asked for before (`elicit.rs`).
        _ => {
            let help = format!("fromEnv names one of the host: {}; without both a person is asked", secrets.offered());
            let message = "only one of value and fromEnv is taken";
            return Err(Error::new(ErrorKind::InvalidDefinition, message).with_help(help));
        }
    }
    Ok(Done::YES)
}

pub(in crate::server) async fn remove(call: Call, params: RemoveSecret) -> Result<Done> {
    let key = call.server(&params.server_id).await?;
    call.meta.secrets().remove(&key, &env_name(&params.name)?).await?;
    Ok(Done::YES)
}

pub(in crate::server) async fn list(call: Call, params: OneServer) -> Result<SecretNames> {
    let key = call.server(&params.server_id).await?;
    let declared = call.meta.servers().get(&key).await?.definition.secrets;
    let set: Vec<String> = call.meta.secrets().list(&key).await?.into_iter().map(Into::into).collect();
    let left_over = set.iter().filter(|name| !declared.contains(name)).cloned().collect::<Vec<_>>();
    let names = declared.into_iter().chain(left_over);
    let secrets = names.map(|name| SecretState { has_value: set.contains(&name), name });
    Ok(SecretNames { secrets: secrets.collect() })
}

fn env_name(text: &str) -> Result<EnvName> {
    Ok(text.parse()?)
}
