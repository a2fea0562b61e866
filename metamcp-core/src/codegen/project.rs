//! The project's own files: `package.json` and `wrangler.jsonc`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::definition::{Binding, BindingKind};
use crate::settings::WorkerSettings;
use crate::validate::ValidDefinition;

/// Versions that were tested together; the toolchain pins the same SDK.
pub(super) const SDK: (&str, &str) = ("@modelcontextprotocol/server", "2.4.0");
const DEV_DEPENDENCIES: [(&str, &str); 3] =
    [("@cloudflare/workers-types", "5.20261117.1"), ("typescript", "7.0.2"), ("wrangler", "4.164.0")];

/// Indented JSON with a line break at its end.
pub(super) fn pretty(value: &impl Serialize) -> Vec<u8> {
    // Writing plain data into memory cannot fail.
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The content of `package.json`.
pub(super) fn package(definition: &ValidDefinition) -> impl Serialize {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Package<'a> {
        name: &'a str,
        version: &'a str,
        private: bool,
        #[serde(rename = "type")]
        kind: &'a str,
        engines: BTreeMap<&'a str, &'a str>,
        scripts: BTreeMap<&'a str, &'a str>,
        dependencies: BTreeMap<&'a str, &'a str>,
        dev_dependencies: BTreeMap<&'a str, &'a str>,
    }
    let written = definition.written();
    let packages = [&written.dependencies, &definition.template().manifest().dependencies];
    let packages = packages.into_iter().flatten().map(|(name, version)| (name.as_str(), version.as_str()));
    Package {
        name: definition.name().as_str(),
        version: &written.version,
        private: true,
        kind: "module",
        engines: BTreeMap::from([("node", ">=22.12")]),
        scripts: BTreeMap::from([
            ("check", "tsc --noEmit && wrangler deploy --dry-run"),
            ("deploy", "wrangler deploy"),
            ("dev", "wrangler dev"),
        ]),
        dependencies: packages.chain([SDK]).collect(),
        dev_dependencies: DEV_DEPENDENCIES.into(),
    }
}

/// The text of `wrangler.jsonc`: every field comes from [`WorkerSettings`].
pub(super) fn wrangler(definition: &ValidDefinition) -> Vec<u8> {
    let settings = WorkerSettings::of(definition);
    let mut lines = vec![
        entry("$schema", &"node_modules/wrangler/config-schema.json"),
        entry("name", &settings.name),
        entry("main", &super::ENTRY_PATH),
        entry("compatibility_date", &settings.compatibility_date),
    ];
    if !settings.compatibility_flags.is_empty() {
        lines.push(entry("compatibility_flags", &settings.compatibility_flags));
    }
    // Bodies are uploaded as the files they are, so that errors name their lines. Without `**/` wrangler would bundle
    // them too, which it has to where they import npm packages.
    if settings.dependencies.is_empty() {
        lines.push(entry("find_additional_modules", &true));
        lines.push(entry("rules", &json!([{ "type": "ESModule", "globs": ["**/bodies/*.js"] }])));
    }
    if !settings.vars.is_empty() {
        lines.push(entry("vars", &settings.vars));
    }
    lines.extend(bindings(&settings).iter().map(|(key, value)| entry(key, value)));
    lines.push(entry("observability", &json!({ "enabled": true })));
    format!("{{\n{}\n}}\n", lines.join(",\n")).into_bytes()
}

/// `  "key": value`, indented as one entry of the outer object.
fn entry(key: &str, value: &impl Serialize) -> String {
    let text = String::from_utf8(pretty(value)).unwrap_or_default();
    format!("  {}: {}", json!(key), text.trim_end().replace('\n', "\n  "))
}

/// Bindings and Durable Objects in wrangler's own form.
fn bindings(settings: &WorkerSettings) -> Map<String, Value> {
    let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut out = Map::new();
    for (name, binding) in &settings.bindings {
        let Binding { kind, target, .. } = binding;
        let target = target.as_deref().unwrap_or(name.as_str());
        match kind {
            BindingKind::Kv => push(&mut lists, "kv_namespaces", json!({ "binding": name, "id": target })),
            BindingKind::D1 => push(
                &mut lists,
                "d1_databases",
                json!({ "binding": name, "database_name": target, "database_id": target }),
            ),
            BindingKind::R2 => push(&mut lists, "r2_buckets", json!({ "binding": name, "bucket_name": target })),
            BindingKind::Service => push(&mut lists, "services", json!({ "binding": name, "service": target })),
            BindingKind::Vectorize => push(&mut lists, "vectorize", json!({ "binding": name, "index_name": target })),
            BindingKind::Queue => push(&mut lists, "producers", json!({ "binding": name, "queue": target })),
            BindingKind::Ai => drop(out.insert("ai".into(), json!({ "binding": name }))),
            BindingKind::Images => drop(out.insert("images".into(), json!({ "binding": name }))),
            BindingKind::Browser => drop(out.insert("browser".into(), json!({ "binding": name }))),
        }
    }
    if let Some(producers) = lists.remove("producers") {
        out.insert("queues".into(), json!({ "producers": producers }));
    }
    out.extend(lists.into_iter().map(|(key, list)| (key.to_owned(), Value::Array(list))));
    if !settings.durable_objects.is_empty() {
        let objects = settings.durable_objects.iter();
        let classes: Vec<_> = objects.clone().map(|object| &object.class_name).collect();
        let bound: Vec<_> =
            objects.map(|object| json!({ "name": object.binding, "class_name": object.class_name })).collect();
        out.insert("durable_objects".into(), json!({ "bindings": bound }));
        out.insert("migrations".into(), json!([{ "tag": "v1", "new_sqlite_classes": classes }]));
    }
    out
}

fn push(lists: &mut BTreeMap<&str, Vec<Value>>, key: &'static str, value: Value) {
    lists.entry(key).or_default().push(value);
}
