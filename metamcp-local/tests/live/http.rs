//! The least of an MCP client: one JSON-RPC request by plain HTTP, in either era, and all that came back.

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use super::Era;

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// The JSON messages of the answer: one for JSON, maybe more for an event stream.
    pub(crate) messages: Vec<Value>,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap());
        let content_type = content_type.split(';').next().unwrap_or_default().to_owned();
        let text = response.text().await.unwrap();
        let messages = if content_type == "text/event-stream" {
            // A stream may begin with an event that has nothing but an id.
            text.lines()
                .filter_map(|line| line.strip_prefix("data: ").filter(|data| !data.is_empty()))
                .map(parse)
                .collect()
        } else if text.is_empty() {
            Vec::new()
        } else {
            vec![parse(&text)]
        };
        Self { status, content_type, messages }
    }

    /// The last message.
    pub(crate) fn last(&self) -> &Value {
        self.messages.last().unwrap_or(&Value::Null)
    }

    pub(crate) fn result(&self) -> &Value {
        self.last().get("result").unwrap_or_else(|| panic!("a result was expected: {self:?}"))
    }

    pub(crate) fn error_code(&self) -> i64 {
        self.last()["error"]["code"].as_i64().unwrap_or_else(|| panic!("an error was expected: {self:?}"))
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A POST with the headers that every MCP client sends.
pub(crate) fn post(url: &str) -> RequestBuilder {
    post_with(&reqwest::Client::new(), url)
}

fn post_with(client: &Client, url: &str) -> RequestBuilder {
    client.post(url).header("content-type", "application/json").header("accept", "application/json, text/event-stream")
}

/// The JSON-RPC request of an era.
pub(crate) fn message(era: Era, method: &str, params: &Value) -> Value {
    let mut params = params.clone();
    if era == Era::Discover {
        let meta = &mut params["_meta"];
        if !meta.is_object() {
            *meta = json!({});
        }
        meta["io.modelcontextprotocol/protocolVersion"] = json!(era.version());
        meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "metamcp-test", "version": "1.0.0" });
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    }
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

/// The request with its era's headers.
pub(crate) fn prepare(url: &str, era: Era, method: &str, params: &Value) -> RequestBuilder {
    prepare_with(&Client::new(), url, era, method, params)
}

/// The same with a client that keeps its connections: for thousands of requests.
pub(crate) fn prepare_with(client: &Client, url: &str, era: Era, method: &str, params: &Value) -> RequestBuilder {
    let mut request = post_with(client, url).header("mcp-protocol-version", era.version());
    if era == Era::Discover {
        request = request.header("mcp-method", method);
        let named = match method {
            "tools/call" | "prompts/get" => params["name"].as_str(),
            "resources/read" => params["uri"].as_str(),
            _ => None,
        };
        if let Some(name) = named {
            request = request.header("mcp-name", name);
        }
    }
    request.body(message(era, method, params).to_string())
}

pub(crate) async fn request(url: &str, era: Era, method: &str, params: &Value) -> Answer {
    Answer::of(prepare(url, era, method, params).send().await.unwrap()).await
}
