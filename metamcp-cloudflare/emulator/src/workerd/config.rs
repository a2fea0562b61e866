//! The configuration of a process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use metamcp_core::{Error, ErrorKind, Module, ModuleKind};
use serde_json::{Value, json};
use uuid::Uuid;

use super::capnp::{data, list, text};
use super::{BINDING, Plan, Worker};

/// The way out: the public internet, and the hosts that were led elsewhere.
const INTERNET: &str = include_str!("internet.js");
/// Brings the emulator what a Worker logged.
const TAIL: &str = include_str!("tail.js");
/// The binding of a dispatch namespace.
const DISPATCH_NAMESPACE: &str = include_str!("dispatch_namespace.js");
const DISPATCH_MODULE: &str = "emulator:dispatch-namespace";
/// For the emulator's own Workers.
const COMPATIBILITY_DATE: &str = "2026-11-01";

/// Where a process finds what it needs.
pub(super) struct Place<'a> {
    /// Its own folder.
    pub(super) folder: &'a Path,
    pub(super) emulator: SocketAddr,
    pub(super) overrides: &'a BTreeMap<String, SocketAddr>,
}

/// The configuration as text.
pub(super) fn render(plan: &Plan<'_>, place: &Place<'_>) -> Result<String, Error> {
    let mut services = Services { place, written: Vec::new() };
    let way_out = if plan.outbound.is_some() { "outbound" } else { "internet" };
    services.add_worker("main", plan.worker, way_out)?;
    if let Some(outbound) = plan.outbound {
        services.add_worker("outbound", outbound, "internet")?;
    }
    services.add_internet();
    services.add_emulator("emulator", &json!({ "type": "tail", "script": plan.script, "version": plan.version }));
    services.add("tail", &own_worker(TAIL, &[service_binding("EMULATOR", "emulator")]));
    services.written.push(format!(
        "(name = \"state\", disk = (path = {}, writable = true))",
        text(&utf8(&place.folder.join("state"))?)
    ));
    let socket = text(&format!("unix:{}", utf8(&place.folder.join("s"))?));
    Ok(format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n  services = [\n    \
         {}\n  ],\n  sockets = [(name = \"http\", address = {socket}, http = (), service = \"main\")],\n  \
         extensions = [(modules = [(name = {}, internal = true, esModule = {})])],\n);\n",
        services.written.join(",\n    "),
        text(DISPATCH_MODULE),
        text(DISPATCH_NAMESPACE),
    ))
}

struct Services<'a> {
    place: &'a Place<'a>,
    written: Vec<String>,
}

impl Services<'_> {
    fn add(&mut self, name: &str, worker: &str) {
        self.written.push(format!("(name = {}, worker = {worker})", text(name)));
    }

    fn add_worker(&mut self, name: &str, worker: Worker<'_>, way_out: &str) -> Result<(), Error> {
        let Worker { code, bindings } = worker;
        let mut bound = Vec::new();
        for (index, binding) in bindings.iter().enumerate() {
            let service = format!("{name}-binding-{index}");
            if let Some(written) = self.binding(binding, &service) {
                bound.push(written);
            }
        }
        let mut fields = vec![
            format!("modules = {}", modules(&code.main_module, &code.modules)?),
            format!("compatibilityDate = {}", text(&code.compatibility_date)),
            format!("compatibilityFlags = {}", list(code.compatibility_flags.iter().map(|flag| text(flag)))),
            format!("globalOutbound = {}", text(way_out)),
            format!("bindings = {}", list(bound)),
        ];
        if name == "main" {
            fields.push("tails = [\"tail\"]".to_owned());
        }
        fields.extend(durable_objects(bindings));
        self.add(name, &format!("({})", fields.join(", ")));
        Ok(())
    }

    /// A binding as workerd knows it; those to resources lead to the emulator.
    fn binding(&mut self, binding: &Value, service: &str) -> Option<String> {
        let field = |name: &str| binding[name].as_str().unwrap_or_default();
        let name = text(field("name"));
        let value = match binding["type"].as_str()? {
            "plain_text" | "secret_text" => format!("text = {}", text(field("text"))),
            "json" => format!("json = {}", text(&binding["json"].to_string())),
            "durable_object_namespace" => format!("durableObjectNamespace = {}", text(field("class_name"))),
            "kv_namespace" => format!("kvNamespace = {}", text(service)),
            "service" => format!("service = {}", text(service)),
            "d1" => wrapped("cloudflare-internal:d1-api", service),
            "dispatch_namespace" => wrapped(DISPATCH_MODULE, service),
            _ => return None,
        };
        if value.contains(&text(service)) {
            self.add_emulator(service, binding);
        }
        Some(format!("(name = {name}, {value})"))
    }

    /// The emulator, which is told which binding asks.
    fn add_emulator(&mut self, name: &str, binding: &Value) {
        let (address, binding) = (text(&self.place.emulator.to_string()), text(&ascii(binding)));
        self.written.push(format!(
            "(name = {}, external = (address = {address}, http = (injectRequestHeaders = [(name = {}, value = {binding})])))",
            text(name),
            text(BINDING)
        ));
    }

    fn add_internet(&mut self) {
        let named: Vec<_> = self.place.overrides.iter().enumerate().collect();
        let hosts: BTreeMap<_, _> =
            named.iter().map(|(index, (host, _))| (host.as_str(), format!("OVERRIDE_{index}"))).collect();
        let mut bindings = vec![
            format!("(name = \"OVERRIDES\", json = {})", text(&json!(hosts).to_string())),
            service_binding("NETWORK", "network"),
        ];
        for (index, (_, address)) in named {
            let service = format!("override-{index}");
            bindings.push(service_binding(&format!("OVERRIDE_{index}"), &service));
            let address = text(&address.to_string());
            self.written.push(format!("(name = {}, external = (address = {address}, http = ()))", text(&service)));
        }
        self.add("internet", &own_worker(INTERNET, &bindings));
        self.written.push(
            "(name = \"network\", network = (allow = [\"public\"], tlsOptions = (trustBrowserCas = true)))".into(),
        );
    }
}

fn wrapped(module: &str, service: &str) -> String {
    let inner = service_binding("fetcher", service);
    format!("wrapped = (moduleName = {}, innerBindings = [{inner}])", text(module))
}

fn service_binding(name: &str, service: &str) -> String {
    format!("(name = {}, service = {})", text(name), text(service))
}

fn own_worker(source: &str, bindings: &[String]) -> String {
    format!(
        "(modules = [(name = \"index.js\", esModule = {})], compatibilityDate = {}, bindings = {}, globalOutbound = \
         \"network\")",
        text(source),
        text(COMPATIBILITY_DATE),
        list(bindings.iter().cloned())
    )
}

/// Durable Objects, whose state a new version does not find.
fn durable_objects(bindings: &[Value]) -> Vec<String> {
    let objects = bindings.iter().filter(|binding| binding["type"] == "durable_object_namespace");
    let classes: BTreeSet<_> = objects.filter_map(|binding| binding["class_name"].as_str()).collect();
    if classes.is_empty() {
        return Vec::new();
    }
    let namespaces = classes.into_iter().map(|class| {
        let key = text(&Uuid::new_v4().to_string());
        format!("(className = {}, uniqueKey = {key}, enableSql = true)", text(class))
    });
    vec![
        format!("durableObjectNamespaces = {}", list(namespaces)),
        "durableObjectStorage = (localDisk = \"state\")".to_owned(),
    ]
}

/// workerd takes the first module as the main one.
fn modules(main_module: &str, modules: &BTreeMap<String, Module>) -> Result<String, Error> {
    let main = modules.iter().filter(|(name, _)| *name == main_module);
    let others = modules.iter().filter(|(name, _)| *name != main_module);
    let written: Result<Vec<_>, Error> = main.chain(others).map(|(name, module)| written(name, module)).collect();
    Ok(list(written?))
}

fn written(name: &str, module: &Module) -> Result<String, Error> {
    let field = match module.kind {
        ModuleKind::EsModule => "esModule",
        ModuleKind::Json => "json",
        ModuleKind::Text => "text",
        ModuleKind::Data => "data",
        ModuleKind::Wasm => "wasm",
    };
    let content = if matches!(module.kind, ModuleKind::Data | ModuleKind::Wasm) {
        data(&module.content)
    } else {
        let content = std::str::from_utf8(&module.content);
        text(content.map_err(|_| Error::new(ErrorKind::BuildFailed, format!("module {name:?} is not UTF-8 text")))?)
    };
    Ok(format!("(name = {}, {field} = {content})", text(name)))
}

/// JSON that a header can carry.
fn ascii(value: &Value) -> String {
    let text = value.to_string();
    let escape = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    text.encode_utf16().map(escape).collect()
}

fn utf8(path: &Path) -> Result<String, Error> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::new(ErrorKind::ConfigInvalid, format!("path {} is not UTF-8", path.display())))
}
