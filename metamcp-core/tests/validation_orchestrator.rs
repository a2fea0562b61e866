//! What the template `orchestrator-workers` asks of the tools that its options name.

use metamcp_core::{ValidationErrors, validate_json};
use serde_json::{Value, json};

/// A definition whose aggregator has these parameters.
fn with_aggregator(parameters: &Value) -> Result<(), ValidationErrors> {
    let tool = |name: &str, parameters: &Value| json!({ "name": name, "description": "A tool.", "parameters": parameters, "implementation": "return 1;" });
    let definition = json!({
        "name": "jobs", "description": "Does jobs.", "template": "orchestrator-workers",
        "options": { "aggregator": "sum" }, "tools": [tool("work", &json!({})), tool("sum", parameters)]
    });
    validate_json(&definition).map(drop)
}

#[test]
fn an_aggregator_takes_results_and_requires_nothing_else() {
    let good = [
        json!({ "results": { "type": "array", "required": true } }),
        json!({ "results": { "type": "array" }, "title": { "type": "string" } }),
        json!({ "type": "object", "properties": {} }),
    ];
    for parameters in good {
        with_aggregator(&parameters).unwrap_or_else(|errors| panic!("{parameters}: {errors}"));
    }
    let bad = [
        json!({}),
        json!({ "result": { "type": "array" } }),
        json!({ "results": { "type": "array" }, "title": { "type": "string", "required": true } }),
        json!({ "type": "object", "properties": {}, "additionalProperties": false }),
    ];
    for parameters in bad {
        let errors = with_aggregator(&parameters).unwrap_err();
        let told = errors.problems();
        assert_eq!((told.len(), told[0].pointer.as_str()), (1, "/options/aggregator"), "{parameters}: {errors}");
        assert!(told[0].message.contains("results"), "{errors}");
    }
}
