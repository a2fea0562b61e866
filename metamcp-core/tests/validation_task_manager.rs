//! The options of the template `agent-task-manager`: which tools can be called only as tasks.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use metamcp_core::{ServerDefinition, validate};
use serde_json::{Value, json};

/// Where the problems of a definition are whose tool `slow` is a task as `support` says.
fn problems_of(support: &Value, probed: &str) -> Vec<String> {
    let tool = |name: &str| {
        json!({
            "name": name,
            "description": "Takes a while.",
            "implementation": "return 'done';",
            "examples": [{ "arguments": {}, "expected": "done" }]
        })
    };
    let definition = json!({
        "name": "queue",
        "description": "Queues.",
        "template": "agent-task-manager",
        "options": { "tasks": { "slow": support } },
        "tools": [tool("quick"), tool("slow")],
        "probe": { "tool": probed }
    });
    let Err(errors) = validate(&serde_json::from_value::<ServerDefinition>(definition).unwrap()) else { return vec![] };
    assert!(errors.problems().iter().all(|problem| problem.message.contains("only as a task")), "{errors}");
    errors.problems().iter().map(|problem| problem.pointer.clone()).collect()
}

#[test]
fn a_tool_that_is_required_as_a_task_has_neither_examples_nor_the_probe() {
    let required = json!({ "required": true });
    assert_eq!(problems_of(&required, "slow"), ["/tools/1/examples", "/probe/tool"]);
    assert_eq!(problems_of(&required, "quick"), ["/tools/1/examples"]);
    assert_eq!(problems_of(&json!({}), "slow"), [""; 0]);
    assert_eq!(problems_of(&json!({ "required": false, "askFirst": true }), "slow"), [""; 0]);
}
