use serde_json::{Value, json};

use super::fixture::{full, moment, put_version, unique_name, valid, version_of};
use crate::registry::{Expect, Registry};

/// Texts that end a string, a statement, a pattern or a script somewhere.
const HOSTILE: &[&str] = &[
    "'; DROP TABLE mcp_servers; --",
    "\"quoted\" `back` ${x} */ </script> {{x}} $& \\",
    "%_* ? ?1 :name @name $name",
    "tab\tnewline\nend",
    "naïve 日本語 🦀 e\u{301}",
];

/// Descriptions, schemas, bodies and values are data, whatever they say.
pub async fn hostile_text_reads_back_exactly(registry: &dyn Registry) {
    for text in HOSTILE {
        let mut definition = full(&unique_name());
        definition["description"] = Value::from(*text);
        definition["tools"][0]["description"] = Value::from(*text);
        definition["tools"][0]["implementation"] =
            Value::from(format!("return {} + '\u{2028}a\0b';\n// {{", Value::from(*text)));
        definition["tools"][0]["parameters"] =
            json!({ "q": { "type": "string", "default": text, "description": text } });
        definition["resources"][0]["description"] = Value::from(*text);
        definition["prompts"][1]["implementation"] = Value::from(format!("return {};", json!([text, "\u{0}\u{1f}"])));
        definition["vars"]["TEXT"] = json!({ (*text): [text, "\u{2028}"] });
        let definition = valid(definition);
        let put = registry.put_server(&definition, Expect::Absent).await.unwrap();
        let read = registry.get_server(&put.id.into()).await.unwrap();
        assert_eq!(&read.definition, definition.written(), "{text:?}");
        let version = version_of(&read, "v1", moment(0));
        put_version(registry, &put, &version).await;
        assert_eq!(registry.get_version(put.id, &version.version).await.unwrap(), version, "{text:?}");
        registry.remove_server(put.id).await.unwrap();
    }
}

/// Numbers, empty containers and nulls in JSON fields come back as they were.
pub async fn numbers_read_back_exactly(registry: &dyn Registry) {
    let mut definition = full(&unique_name());
    definition["vars"] = json!({
        "NUMBERS": [0, -1, 1.0, -0.0, 0.1, 1e300, 5e-324, 2.225_073_858_507_201e-308, 1.797_693_134_862_315_7e308],
        "INTEGERS": [i64::MIN, i64::MAX, u64::MAX, 9_007_199_254_740_993_u64],
        "EMPTY": [{}, [], "", null],
        "NOTHING": null,
    });
    let definition = valid(definition);
    let put = registry.put_server(&definition, Expect::Absent).await.unwrap();
    let changed = serde_json::to_value(definition.written()).map(|mut value| {
        value["description"] = "Changed".into();
        valid(value)
    });
    let changed = changed.expect("a definition");
    assert_eq!(registry.get_server(&put.id.into()).await.unwrap().definition.vars, definition.written().vars);
    registry.put_server(&changed, Expect::Revision(put.revision)).await.unwrap();
    assert_eq!(&registry.get_server(&put.id.into()).await.unwrap().definition, changed.written());
    registry.remove_server(put.id).await.unwrap();
}

/// Several megabytes in one definition, and in one version.
pub async fn a_thousand_tools_read_back_in_order(registry: &dyn Registry) {
    let name = unique_name();
    let body = format!("return '{}';", "€".repeat(1_000));
    let tool = |n: usize| json!({ "name": format!("tool_{n}"), "description": "x", "implementation": body });
    let tools: Vec<Value> = (0..1_000).rev().map(tool).collect();
    let definition = valid(json!({ "name": name.as_str(), "description": "Many", "tools": tools }));
    let put = registry.put_server(&definition, Expect::Absent).await.unwrap();
    assert!(registry.get_server(&put.id.into()).await.unwrap().definition == *definition.written());
    let version = version_of(&put, "v1", moment(0));
    put_version(registry, &put, &version).await;
    assert!(registry.list_versions(put.id).await.unwrap() == [version]);

    let fewer = valid(json!({ "name": name.as_str(), "description": "Many", "tools": [tool(7), tool(5)] }));
    registry.put_server(&fewer, Expect::Revision(put.revision)).await.unwrap();
    assert!(registry.get_server(&put.id.into()).await.unwrap().definition == *fewer.written());
    registry.remove_server(put.id).await.unwrap();
}
