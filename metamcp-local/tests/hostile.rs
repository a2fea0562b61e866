//! Hostile text in every string of a definition: it stays text.

mod live;

use std::sync::atomic::{AtomicUsize, Ordering};

use live::project::Project;
use live::{Client, ERAS, Live, hostile};
use metamcp_core::{ServerDefinition, SourceTree, generate, validate};
use oxc_allocator::Allocator;
use oxc_parser::Parser;
use oxc_span::SourceType;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use hostile::{Hostile, hostile, wild_definition};

/// What a generated project has to be, whatever texts are in it.
fn check_project(definition: &ServerDefinition) -> Result<SourceTree, TestCaseError> {
    let valid = validate(definition).map_err(|problems| TestCaseError::fail(problems.to_string()))?;
    let tree = generate(&valid).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&tree, &generate(&valid).unwrap(), "the same definition gives the same bytes");
    for (path, content) in tree.iter() {
        let content = std::str::from_utf8(content).unwrap();
        if path.ends_with(".js") {
            check_script(path, content)?;
        } else if path.ends_with(".json") || path.ends_with(".jsonc") {
            let parsed = serde_json::from_str::<Value>(content);
            prop_assert!(path == "tsconfig.json" || parsed.is_ok(), "{path}: {parsed:?}");
        }
    }
    Ok(tree)
}

fn check_script(path: &str, content: &str) -> Result<(), TestCaseError> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, content, SourceType::mjs()).parse();
    let problem = parsed.diagnostics.errors().next();
    prop_assert!(!parsed.panicked && problem.is_none(), "{path}: {problem:?}\n{content}");
    // A body is one function: text that ends it early would show as more statements.
    let imports_and_exports = parsed.program.body.iter().all(|statement| statement.is_module_declaration());
    prop_assert!(imports_and_exports, "{path} runs something of its own:\n{content}");
    prop_assert!(!path.starts_with("src/bodies/") || parsed.program.body.len() == 1, "{path}:\n{content}");
    Ok(())
}

proptest! {
    #[test]
    fn a_valid_definition_gives_the_same_project_each_time_and_it_parses(texts in hostile()) {
        let definition = texts.definition("hostile");
        let tree = check_project(&definition)?;
        let written = std::str::from_utf8(tree.get("src/definition.json").unwrap()).unwrap();
        let written: Value = serde_json::from_str(written).unwrap();
        prop_assert_eq!(&written["description"], &json!(definition.description));
        for (tool, defined) in written["tools"].as_array().unwrap().iter().zip(&definition.tools) {
            prop_assert_eq!(&tool["description"], &json!(defined.description));
            let module = format!("src/bodies/{}.js", tool["body"].as_str().unwrap());
            let module = std::str::from_utf8(tree.get(&module).unwrap()).unwrap();
            prop_assert!(module.contains(&format!("{{\n{}\n}}", defined.implementation)), "{}", module);
        }
    }

    #[test]
    fn no_definition_makes_the_check_panic_and_what_it_lets_through_parses(definition in wild_definition()) {
        match validate(&definition) {
            Ok(_) => drop(check_project(&definition)?),
            Err(problems) => prop_assert!(!problems.to_string().is_empty()),
        }
    }
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// Deploys it, and compares everything a client sees of it.
async fn comes_back_unchanged(live: &Live, texts: &Hostile) -> Result<(), TestCaseError> {
    // A name of its own: a case that failed leaves its server behind.
    let definition = texts.definition(&format!("hostile-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let deployment = live.deploy(serde_json::to_value(&definition).unwrap()).await;
    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        let info = serde_json::to_value(client.service.peer_info().unwrap()).unwrap();
        prop_assert!(info.to_string().contains(&json!(definition.description).to_string()), "{info}");
        compare_lists(&client, &definition).await?;

        for tool in &definition.tools {
            let answer: Value = serde_json::from_str(&client.text(&tool.name, json!({})).await).unwrap();
            prop_assert_eq!(&answer, &texts.answer(&tool.name, None), "{}", tool.name);
            for given in &texts.texts {
                let answer: Value =
                    serde_json::from_str(&client.text(&tool.name, json!({ "text": given })).await).unwrap();
                prop_assert_eq!(&answer, &texts.answer(&tool.name, Some(given)), "{}", tool.name);
            }
        }
        for resource in &definition.resources {
            let uri = resource.uri.as_deref().unwrap();
            let read = client.read(uri).await.unwrap();
            let expected = json!([{ "uri": uri, "mimeType": resource.mime_type, "text": resource.description }]);
            prop_assert_eq!(read, expected);
        }
        for (index, prompt) in definition.prompts.iter().enumerate() {
            let value = &texts.texts[index % texts.texts.len()];
            let messages = client.prompt(&prompt.name, json!({ "value": value })).await.unwrap();
            prop_assert_eq!(&messages[0]["content"]["text"], &json!(texts.prompt(prompt, value)));
            let completion = client.service.complete_prompt_argument(&prompt.name, "value", "", None).await.unwrap();
            prop_assert_eq!(&completion.values, &prompt.arguments[0].completion);
        }
    }
    live.meta.deployments().remove(&deployment.server_id.into()).await.unwrap();
    Ok(())
}

async fn compare_lists(client: &Client, definition: &ServerDefinition) -> Result<(), TestCaseError> {
    let tools = serde_json::to_value(client.service.list_all_tools().await.unwrap()).unwrap();
    let tools = tools.as_array().unwrap();
    prop_assert_eq!(tools.len(), definition.tools.len());
    for (listed, defined) in tools.iter().zip(&definition.tools) {
        prop_assert_eq!(&listed["name"], &json!(defined.name));
        prop_assert_eq!(&listed["title"], &json!(defined.title));
        prop_assert_eq!(&listed["description"], &json!(defined.description));
        prop_assert_eq!(&listed["annotations"], &json!(defined.annotations));
        for keyword in ["description", "default", "examples"] {
            prop_assert_eq!(
                &listed["inputSchema"]["properties"]["text"][keyword],
                &defined.parameters["text"][keyword]
            );
        }
    }
    let resources = serde_json::to_value(client.service.list_all_resources().await.unwrap()).unwrap();
    for (listed, defined) in resources.as_array().unwrap().iter().zip(&definition.resources) {
        for (field, expected) in [
            ("uri", json!(defined.uri)),
            ("name", json!(defined.name)),
            ("title", json!(defined.title)),
            ("description", json!(defined.description)),
            ("mimeType", json!(defined.mime_type)),
        ] {
            prop_assert_eq!(&listed[field], &expected, "{}", field);
        }
    }
    let prompts = serde_json::to_value(client.service.list_all_prompts().await.unwrap()).unwrap();
    for (listed, defined) in prompts.as_array().unwrap().iter().zip(&definition.prompts) {
        prop_assert_eq!(&listed["description"], &json!(defined.description));
        prop_assert_eq!(&listed["title"], &json!(defined.title));
        prop_assert_eq!(&listed["arguments"][0]["description"], &json!(defined.arguments[0].description));
    }
    Ok(())
}

/// Deploys `cases` different servers, one after the other.
fn deploy_many(cases: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let live = runtime.block_on(Live::open());
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() };
    let outcome =
        TestRunner::new(config).run(&hostile(), |texts| runtime.block_on(comes_back_unchanged(&live, &texts)));
    runtime.block_on(live.close());
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn what_is_deployed_gives_every_text_back_and_runs_none_of_them() {
    deploy_many(8);
}

#[test]
#[ignore = "needs minutes"]
fn many_deployed_servers_give_every_text_back_and_run_none_of_them() {
    deploy_many(200);
}

#[tokio::test]
#[ignore = "needs Node 22"]
async fn a_project_full_of_hostile_text_passes_the_type_checker_and_wrangler() {
    let texts = Hostile::everything();
    let tree = check_project(&texts.definition("hostile")).unwrap();
    let project = Project::install(&tree).await;
    project.run("npx", &["tsc", "--noEmit"]).await;
    project.run("npx", &["wrangler", "deploy", "--dry-run", "--outdir", "dist"]).await;
    assert!(project.path().join("dist/index.js").is_file());
}
