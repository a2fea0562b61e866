//! Meta-MCP inside a Rust agent: asked for something it has no tool for, the agent makes one, tests it, mends it by
//! what the test says, and uses it; the next time the tool is there already.
//!
//! `cargo run -p metamcp-examples --example rust_agent` needs no model: where an agent would ask one for code, this
//! one has the answers of a model written down, the first of them wrong.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use metamcp_core::{MetaMcp, ServerDefinition, ServerKey, ToolAnswer, ToolDefinition, edit};
use metamcp_local::LocalConfig;
use serde_json::{Map, Value, json};

/// What a model would answer when it is asked for the tool's body, and then told what its test said.
const ATTEMPTS: [&str; 2] = [
    "const ms = Date.parse(parameters.until) - Date.parse(parameters.form);\nreturn { days: Math.round(check(ms) / 864e5) };",
    "const ms = Date.parse(parameters.until) - Date.parse(parameters.from);\n\
     if (Number.isNaN(ms)) throw new Error('from and until are dates such as 2026-01-31');\n\
     return { days: Math.round(ms / 864e5) };",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let agent = Agent { meta: metamcp_local::open(LocalConfig::new(folder.path())).await? };
    for (from, until) in [("2026-01-01", "2026-12-25"), ("2024-02-01", "2024-03-01")] {
        let days = agent.days_between(from, until).await?;
        println!("from {from} until {until} it is {days} days");
    }
    agent.meta.close().await?;
    Ok(())
}

struct Agent {
    meta: MetaMcp,
}

impl Agent {
    async fn days_between(&self, from: &str, until: &str) -> Result<Value, Box<dyn Error>> {
        let arguments = json!({ "from": from, "until": until }).as_object().cloned().unwrap_or_default();
        let found = self.meta.servers().search_tools("days between dates", 1).await?;
        let (server, tool) = match found.into_iter().next().filter(|tool| tool.live) {
            Some(tool) => (ServerKey::from(&tool.server), tool.tool),
            None => self.make_tool(&arguments).await?,
        };
        let answer = self.meta.deployments().call_tool(&server, &tool, arguments).await?;
        let days: Value = serde_json::from_str(&text(&answer))?;
        Ok(days["days"].clone())
    }

    /// Defines the tool, tests it on the arguments at hand until it answers, and makes it live.
    async fn make_tool(&self, arguments: &Map<String, Value>) -> Result<(ServerKey, String), Box<dyn Error>> {
        println!("no tool for this yet: making one");
        let server: ServerDefinition =
            serde_json::from_value(json!({ "name": "calendar", "description": "Works with dates." }))?;
        let key = ServerKey::from(self.meta.servers().create(&server).await?.id);
        for body in ATTEMPTS {
            let tool: ToolDefinition = serde_json::from_value(json!({
                "name": "days_between",
                "description": "Counts the days between two dates (YYYY-MM-DD).",
                "parameters": { "from": { "type": "string", "required": true }, "until": { "type": "string", "required": true } },
                "implementation": body
            }))?;
            let put = |definition: &ServerDefinition| {
                if definition.tools.is_empty() {
                    edit::add_tool(definition, tool.clone())
                } else {
                    edit::update_tool(definition, tool.clone())
                }
            };
            self.meta.servers().edit(&key, put).await?;
            let test = self.meta.deployments().test_tool(&key, "days_between", arguments.clone()).await?;
            println!("  test: {}", text(&test.answer));
            if !test.answer.is_error {
                let deployment = self.meta.deployments().deploy(&key).await?;
                println!("  live at {}", deployment.url);
                return Ok((key, "days_between".to_owned()));
            }
        }
        Err("no attempt passed its test".into())
    }
}

fn text(answer: &ToolAnswer) -> String {
    answer.content.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}
