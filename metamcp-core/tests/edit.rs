//! Editing definitions.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use metamcp_core::contract::definitions;
use metamcp_core::{ErrorKind, ServerDefinition, edit};
use proptest::prelude::*;
use serde_json::{Value, from_value, json};

fn tool(name: &str) -> metamcp_core::ToolDefinition {
    from_value(json!({ "name": name, "description": "Does a thing", "implementation": "return 1;" })).unwrap()
}

fn server(tools: &[&str]) -> ServerDefinition {
    let definition: Value = json!({ "name": "server", "description": "A server", "probe": { "tool": "get_user" } });
    let empty = from_value(definition).unwrap();
    tools.iter().fold(empty, |server, name| edit::add_tool(&server, tool(name)).unwrap())
}

#[test]
fn a_rename_is_followed_by_the_probe() {
    let renamed = edit::rename_tool(&server(&["get_user", "other"]), "get_user", "find_user").unwrap();
    assert_eq!(renamed.tools[0].name, "find_user");
    assert_eq!(renamed.probe.unwrap().tool, "find_user");
}

#[test]
fn a_removed_tool_takes_its_probe_along() {
    assert_eq!(edit::remove_tool(&server(&["get_user"]), "get_user").unwrap().probe, None);
    assert!(edit::remove_tool(&server(&["get_user", "other"]), "other").unwrap().probe.is_some());
}

#[test]
fn another_tool_of_the_same_name_already_exists() {
    let mut other = tool("Get_User");
    other.description = "Does another thing".to_owned();
    let error = edit::add_tool(&server(&["get_user"]), other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    insta::assert_snapshot!(error, @r#"tool "get_user" already exists; update that tool instead, or choose another name"#);
    let error = edit::rename_tool(&server(&["get_user", "other"]), "other", "GET_USER").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_name_may_change_its_case() {
    let renamed = edit::rename_tool(&server(&["get_user"]), "get_user", "Get_User").unwrap();
    assert_eq!(renamed.tools[0].name, "Get_User");
}

#[test]
fn what_is_missing_is_named_with_what_is_near() {
    let error = edit::remove_tool(&server(&["get_user", "other"]), "get_usr").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    insta::assert_snapshot!(error, @r#"tool "get_usr" does not exist; did you mean "get_user"?"#);
    let error = edit::update_tool(&server(&["get_user", "other"]), tool("zzz")).unwrap_err();
    insta::assert_snapshot!(error, @r#"tool "zzz" does not exist; its tools are get_user, other"#);
    let error = edit::remove_prompt(&server(&[]), "x").unwrap_err();
    insta::assert_snapshot!(error, @r#"prompt "x" does not exist; the server has no prompt yet; add it"#);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn adding_twice_is_adding_once(definition in definitions()) {
        let new = tool("a-tool-of-its-own-name");
        let once = edit::add_tool(&definition, new.clone()).unwrap();
        prop_assert_eq!(&edit::add_tool(&once, new).unwrap(), &once);
        let back = edit::remove_tool(&once, "a-tool-of-its-own-name").unwrap();
        prop_assert_eq!(&back, &definition);
        for tool in definition.tools.clone() {
            prop_assert_eq!(&edit::add_tool(&definition, tool).unwrap(), &definition);
        }
        for prompt in definition.prompts.clone() {
            prop_assert_eq!(&edit::add_prompt(&definition, prompt).unwrap(), &definition);
        }
        for resource in definition.resources.clone() {
            prop_assert_eq!(&edit::update_resource(&definition, resource).unwrap(), &definition);
        }
    }

    #[test]
    fn a_rename_there_and_back_changes_nothing(definition in definitions()) {
        for tool in &definition.tools {
            let there = edit::rename_tool(&definition, &tool.name, "another-name-altogether").unwrap();
            prop_assert_eq!(&edit::rename_tool(&there, "another-name-altogether", &tool.name).unwrap(), &definition);
        }
    }
}
