//! Calls of a namespace's scripts, whose requests go through the outbound Worker.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Version, forward};
use super::{DispatchNamespaces, Dispatched};
use crate::State;
use crate::answer::Refusal;
use crate::workerd::{Code, DISPATCH, MISSING, Plan, Process, Worker};

/// What a dispatcher asked its binding for.
#[derive(Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    outbound: Map<String, Value>,
}

/// An outbound Worker with the parameters of one call.
struct Outbound {
    code: Arc<Code>,
    bindings: Vec<Value>,
    /// Tells it from others, and from itself with other parameters.
    key: String,
}

impl DispatchNamespaces {
    /// Answers for the script that a dispatcher asks for.
    pub(crate) async fn serve(&self, state: &Arc<State>, binding: &Value, mut request: Request) -> Response {
        let header = request.headers_mut().remove(DISPATCH).unwrap_or_else(|| HeaderValue::from_static(""));
        let target = percent_decode(header.as_bytes()).decode_utf8_lossy();
        let Ok(target) = serde_json::from_str::<Target>(&target) else {
            return (StatusCode::BAD_REQUEST, "a call that cannot be read").into_response();
        };
        match self.process(state, binding, &target).await {
            Ok(process) => forward(request, &process).await,
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {
                ([(MISSING, "1")], refusal.message).into_response()
            }
            Err(refusal) => (StatusCode::INTERNAL_SERVER_ERROR, refusal.message).into_response(),
        }
    }

    async fn process(&self, state: &State, binding: &Value, target: &Target) -> Result<Arc<Process>, Refusal> {
        let outbound = state.scripts.outbound(binding, &target.outbound)?;
        let way_out = outbound.as_ref().map(|outbound| outbound.key.as_str()).unwrap_or_default();
        let at = (binding["namespace"].as_str().unwrap_or_default(), target.name.as_str());
        let served = |dispatched: &mut Dispatched| Ok(dispatched.script.served(&state.edge).cloned());
        let version = self.script(at, served)?.ok_or_else(|| Refusal::new(404, 10_092, "it was never uploaded"))?;
        let key = format!("{} {way_out}", version.id);
        if let Some(running) = self.script(at, |dispatched| Ok(dispatched.running.get(&key).cloned()))? {
            return Ok(running);
        }
        let process = start(state, &target.name, &version, outbound.as_ref()).await?;
        self.script(at, |dispatched| {
            // Not if it was replaced, or a secret changed meanwhile.
            let unchanged = dispatched.script.version(version.id).is_ok_and(|now| now.bindings == version.bindings);
            if unchanged {
                dispatched.running.insert(key, Arc::clone(&process));
            }
            Ok(())
        })?;
        Ok(process)
    }
}

async fn start(
    state: &State,
    script: &str,
    version: &Version,
    outbound: Option<&Outbound>,
) -> Result<Arc<Process>, Refusal> {
    let worker = Worker { code: &version.code, bindings: &version.bindings };
    let outbound = outbound.map(|outbound| Worker { code: &outbound.code, bindings: &outbound.bindings });
    let started = state.runner.start(Plan { script, version: version.id, worker, outbound }).await;
    started.map_err(|error| Refusal::new(500, 10_021, error.to_string()))
}

impl super::super::Scripts {
    /// The outbound Worker of a dispatch binding, with those of the call's parameters that the binding names.
    fn outbound(&self, binding: &Value, parameters: &Map<String, Value>) -> Result<Option<Outbound>, Refusal> {
        let Some(service) = binding["outbound"]["worker"]["service"].as_str() else { return Ok(None) };
        let live = self.inside(service, |script| Ok(script.live().cloned()))?;
        let gone = || Refusal::new(500, 10_144, format!("the outbound Worker {service} is gone"));
        let version = live.ok_or_else(gone)?;
        let named = binding["outbound"]["params"].as_array().into_iter().flatten();
        let given = named.filter_map(|parameter| parameters.get_key_value(parameter["name"].as_str()?));
        let given: Vec<_> = given
            .map(|(name, value)| match value {
                Value::String(text) => json!({ "type": "plain_text", "name": name, "text": text }),
                value => json!({ "type": "json", "name": name, "json": value }),
            })
            .collect();
        let key = json!([version.id, given]).to_string();
        let bindings = version.bindings.iter().cloned().chain(given).collect();
        Ok(Some(Outbound { code: version.code, bindings, key }))
    }
}
