//! Asking the person who uses a client for a secret, by elicitation in URL mode: the specification forbids to ask for
//! secrets in the client's own forms. Clients of the sessions' era are asked by a request of the server's; those of
//! 2026-07-28 by an `input_required` result, after which they call again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::http::request::Parts;
use ::http::{HeaderMap, header};
use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, InputRequest,
    InputRequests, InputRequiredResult, ProtocolVersion,
};
use rmcp::service::RequestContext;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use super::call::{Call, ServerArg};
use super::secret_page::{PAGE_LIMIT, SecretPage};
use crate::name::{EnvName, ServerName};
use crate::{Error, ErrorKind, Result};

/// Pages that wait for a person at once.
const MAX_PAGES: usize = 16;
/// How long one call waits: clients give up on calls that take a minute, so those that can are told to call again, and
/// the others that the call is alive.
const WAIT: Duration = Duration::from_secs(20);
/// The name of the one question that is asked.
const QUESTION: &str = "secret";

/// What came of asking.
pub(super) enum Asked {
    /// The person typed it.
    Typed(SecretString),
    /// The client has to ask, or to wait longer, and to call again.
    Again(InputRequiredResult),
}

/// The questions that wait for clients to call again.
#[derive(Debug, Clone)]
pub(super) struct Questions {
    waiting: Arc<Mutex<BTreeMap<String, Question>>>,
    slots: Arc<Semaphore>,
}

/// One secret that somebody is asked for.
#[derive(Debug)]
struct Question {
    page: SecretPage,
    about: About,
    _slot: OwnedSemaphorePermit,
}

/// Whose question it is: nobody else gets the answer, or gives it to another secret.
#[derive(Debug, Clone, PartialEq, Eq)]
struct About {
    actor: String,
    server: ServerName,
    secret: EnvName,
}

/// The arguments of `set_secret`, where they leave it to a person to say the value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Unsaid {
    server_id: ServerArg,
    name: String,
}

impl Default for Questions {
    fn default() -> Self {
        Self { waiting: Arc::default(), slots: Arc::new(Semaphore::new(MAX_PAGES)) }
    }
}

impl Questions {
    /// Asks for the value that a call of `set_secret` leaves out; `None` where it leaves nothing out, or is wrong in
    /// other ways, which the tool itself says.
    pub(super) async fn secret(
        &self,
        call: &Call,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<Asked>> {
        let Some(unsaid) = request.arguments.as_ref().and_then(unsaid) else { return Ok(None) };
        let Ok(secret) = unsaid.name.parse::<EnvName>() else { return Ok(None) };
        let key = call.server(&unsaid.server_id).await?;
        let secrets = call.meta.secrets();
        let server = secrets.declaring_server(&key, &secret).await?;
        let about = About { actor: call.access.actor().to_owned(), server, secret };
        if let Some(state) = &request.request_state {
            return self.answered(state, &about, request).await.map(Some);
        }
        let by = ElicitationMode::of(context).map_err(|problem| {
            let help = format!(
                "have the person set it with a client that can open pages, name a variable of the host in fromEnv ({}), \
                 or pass value, which is seen by whoever calls",
                secrets.offered()
            );
            let message = format!("nobody can be asked for secret {}: {problem}", about.secret);
            Error::new(ErrorKind::Unsupported, message).with_help(help)
        })?;
        let question = self.open(about).await?;
        Ok(Some(match by {
            ElicitationMode::Request => Asked::Typed(asked_now(question, call, context).await?),
            ElicitationMode::InputRequired => Asked::Again(self.keep(question)),
        }))
    }

    /// Opens the page; [`ErrorKind::LimitExceeded`] while too many are open.
    async fn open(&self, about: About) -> Result<Question> {
        self.lock().retain(|_, question| !question.page.is_over());
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, format!("{MAX_PAGES} pages wait for somebody already"))
                .with_help("have the person answer those, or wait some minutes")
        })?;
        let page = SecretPage::open(&about.server, &about.secret).await?;
        Ok(Question { page, about, _slot: slot })
    }

    /// Keeps a question until the client calls again.
    fn keep(&self, question: Question) -> InputRequiredResult {
        let state = Uuid::new_v4().simple().to_string();
        let request = InputRequest::Elicitation(ElicitRequest::new(question.elicitation(&state)));
        self.lock().insert(state.clone(), question);
        tokio::spawn(forget_later(Arc::downgrade(&self.waiting), state.clone()));
        let requests = InputRequests::from([(QUESTION.to_owned(), request)]);
        InputRequiredResult::new(Some(requests), Some(state))
    }

    /// The client has called again: waits for the person, or has the client call once more.
    async fn answered(&self, state: &str, about: &About, request: &CallToolRequestParams) -> Result<Asked> {
        let mut question = self.take(state, about)?;
        if let Some(answer) = request.input_responses.as_ref().and_then(|answers| answers.get(QUESTION)) {
            question.accepted(&answer_of(answer)?)?;
        }
        if let Ok(value) = timeout(WAIT, question.page.value()).await {
            return value.map(Asked::Typed);
        }
        self.lock().insert(state.to_owned(), question);
        Ok(Asked::Again(InputRequiredResult::from_request_state(state)))
    }

    fn take(&self, state: &str, about: &About) -> Result<Question> {
        let mut questions = self.lock();
        match questions.get(state) {
            Some(question) if question.about == *about => {}
            // Neither is told from the other to somebody who guesses.
            _ => {
                return Err(Error::new(ErrorKind::NotFound, "no page waits for this secret any more")
                    .with_help("call set_secret again without requestState"));
            }
        }
        questions.remove(state).ok_or_else(|| Error::new(ErrorKind::Unexpected, "a question vanished"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Question>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a client is asked.
enum ElicitationMode {
    /// By a request of the server's, while its call waits.
    Request,
    /// By the result of its call.
    InputRequired,
}

impl ElicitationMode {
    /// The mode that a client's era has; else why it cannot be asked.
    fn of(context: &RequestContext<RoleServer>) -> std::result::Result<Self, &'static str> {
        let elicitation = context.client_capabilities().and_then(|client| client.elicitation);
        if elicitation.is_none_or(|elicitation| elicitation.url.is_none()) {
            return Err("this client does not offer elicitation by URL");
        }
        let newest = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        match context.extensions.get::<Parts>() {
            Some(request) if !is_local(&request.headers) => {
                Err("the page would be on the machine of Meta-MCP, and this client came over a network")
            }
            Some(_) if !newest => Err("over HTTP only clients of 2026-07-28 can be asked"),
            _ if newest => Ok(Self::InputRequired),
            _ => Ok(Self::Request),
        }
    }
}

/// Whether a request names this machine as its own, and came through no proxy that says so.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let proxied = ["forwarded", "x-forwarded-for", "via"].into_iter().any(|name| headers.contains_key(name));
    ["localhost", "127.0.0.1", "[::1]"].contains(&name) && !proxied
}

fn unsaid(arguments: &Map<String, Value>) -> Option<Unsaid> {
    let said = arguments.iter().filter(|(_, value)| !value.is_null());
    let said: Map<String, Value> = said.map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(said)).ok()
}

/// Asks while the call waits.
async fn asked_now(mut question: Question, call: &Call, context: &RequestContext<RoleServer>) -> Result<SecretString> {
    let elicitation = question.elicitation(&Uuid::new_v4().simple().to_string());
    let answer =
        context.peer.create_elicitation_with_timeout(elicitation, Some(PAGE_LIMIT)).await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the client did not ask for the secret").with_source(error)
        })?;
    question.accepted(&answer)?;
    loop {
        match timeout(WAIT, question.page.value()).await {
            Ok(value) => return value,
            Err(_) => call.report(format!("waiting for the value of {}", question.about.secret)).await,
        }
    }
}

impl Question {
    fn elicitation(&self, id: &str) -> ElicitRequestParams {
        let About { server, secret, .. } = &self.about;
        let message =
            format!("The MCP server {server} needs the secret {secret}. Type its value on this page of your machine.");
        let url = self.page.url().to_string();
        ElicitRequestParams::UrlElicitationParams { meta: None, message, url, elicitation_id: id.to_owned() }
    }

    /// Whether the person agreed to open the page.
    fn accepted(&self, answer: &ElicitResult) -> Result<()> {
        let secret = &self.about.secret;
        match answer.action {
            ElicitationAction::Accept => Ok(()),
            ElicitationAction::Decline => {
                Err(Error::new(ErrorKind::PermissionDenied, format!("the person declined to give secret {secret}"))
                    .with_help("go on without it, or say what it is needed for before asking again"))
            }
            _ => Err(Error::new(ErrorKind::Unavailable, format!("the question for secret {secret} was put away"))
                .with_help("ask again when the person wants to")),
        }
    }
}

fn answer_of(answer: &Value) -> Result<ElicitResult> {
    ElicitResult::deserialize(answer).map_err(|error| {
        Error::new(ErrorKind::InvalidDefinition, "the answer to the question for a secret cannot be read")
            .with_source(error)
    })
}

/// Nobody called again: the page has ended by now, and what was typed is not kept longer.
async fn forget_later(questions: Weak<Mutex<BTreeMap<String, Question>>>, state: String) {
    tokio::time::sleep(PAGE_LIMIT).await;
    if let Some(questions) = questions.upgrade() {
        drop(questions.lock().unwrap_or_else(PoisonError::into_inner).remove(&state));
    }
}
