//! The text of a workerd configuration, from typed input; pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use metamcp_core::{Binding, BindingKind, Error, ErrorKind, Module, ModuleKind, Result, WorkerSettings};
use serde_json::Value;

use super::capnp::{data, list, text};
use super::egress::{self, json_binding, service_binding};
use crate::config::ServiceWorker;

/// Everything a configuration says.
#[derive(Debug)]
pub(super) struct WorkerConfig<'a> {
    pub(super) settings: &'a WorkerSettings,
    /// Name of the module with the default export.
    pub(super) main_module: &'a str,
    pub(super) modules: &'a BTreeMap<String, ModuleSource<'a>>,
    /// Declared secrets that have a value.
    pub(super) secrets: &'a [String],
    /// `Host` names the runtime answers to.
    pub(super) hosts: &'a [String],
    /// Socket it listens on.
    pub(super) socket: &'a Path,
    /// Tells this server's Durable Objects from all others.
    pub(super) unique_key: &'a str,
    /// Where Durable Objects are kept.
    pub(super) storage: &'a Path,
    pub(super) way_out: WayOut<'a>,
    pub(super) service_workers: &'a BTreeMap<String, ServiceWorker>,
}

/// How requests leave.
#[derive(Debug)]
pub(super) enum WayOut<'a> {
    /// By the gate in the same process. Some hosts lead to an address of the user's.
    Direct(&'a BTreeMap<String, SocketAddr>),
    /// By the gate of another process, which listens on this socket.
    Through(PathBuf),
}

/// Where a module's bytes are.
#[derive(Debug, Clone)]
pub(super) enum ModuleSource<'a> {
    /// In the configuration itself.
    Inline(&'a Module),
    /// In a file that workerd reads.
    File(ModuleKind, &'a Path),
}

/// Name of the environment variable that carries a secret: prefixed, so that no secret's name means
/// something to the shell or the loader.
pub(super) fn secret_variable(name: &str) -> String {
    format!("METAMCP_SECRET_{name}")
}

/// Refuses settings this target cannot offer, naming every one of them.
pub(super) fn check_supported(settings: &WorkerSettings, services: &BTreeMap<String, ServiceWorker>) -> Result<()> {
    let problems: Vec<String> = settings
        .bindings
        .iter()
        .filter(|(name, binding)| !binding.optional && service_for(name.as_str(), binding, services).is_none())
        .map(|(name, binding)| format!("binding {name} ({})", kind_name(binding.kind)))
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!("the local target does not offer {}", problems.join(", "));
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_help("mark the binding optional, or put a Worker behind it with LocalConfig::with_service_worker"))
}

/// The configuration as capnp text.
pub(super) fn render(config: &WorkerConfig<'_>) -> Result<String> {
    let settings = config.settings;
    let mut services = vec![format!("(name = \"main\", worker = {})", main_worker(config)?)];
    if settings.has_durable_state() {
        let path = utf8(config.storage)?;
        services.push(format!("(name = \"state\", disk = (path = {}, writable = true))", text(path)));
    }
    for (target, worker) in config.service_workers {
        services.push(format!(
            "(name = {}, worker = {})",
            text(&service_name(target)),
            service_worker(config, worker)?
        ));
    }
    match &config.way_out {
        WayOut::Direct(overrides) => {
            services.extend(egress::services(settings.egress.as_deref(), overrides, &settings.compatibility_date));
        }
        WayOut::Through(gate) => services.extend(egress::way_to(utf8(gate)?, &settings.compatibility_date)),
    }
    let socket = format!(
        "(name = \"http\", address = {}, http = (), service = \"main\")",
        text(&format!("unix:{}", utf8(config.socket)?))
    );
    Ok(format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n  v8Flags = [{}],\n  \
         services = [\n    {}\n  ],\n  sockets = [{socket}],\n);\n",
        text(&format!("--max-old-space-size={}", settings.limits.memory_mb)),
        services.join(",\n    ")
    ))
}

fn main_worker(config: &WorkerConfig<'_>) -> Result<String> {
    let settings = config.settings;
    let mut fields = vec![
        format!("modules = {}", modules(config.main_module, config.modules)?),
        format!("compatibilityDate = {}", text(&settings.compatibility_date)),
        format!("compatibilityFlags = {}", list(settings.compatibility_flags.iter().map(|flag| text(flag)))),
        "globalOutbound = \"egress\"".to_owned(),
        format!("bindings = {}", list(bindings(config))),
    ];
    if settings.has_durable_state() {
        let namespaces = settings.durable_objects.iter().map(|class| {
            let key = text(&format!("{}-{}", config.unique_key, class.class_name));
            format!("(className = {}, uniqueKey = {key}, enableSql = true)", text(&class.class_name))
        });
        fields.push(format!("durableObjectNamespaces = {}", list(namespaces)));
        fields.push("durableObjectStorage = (localDisk = \"state\")".to_owned());
    }
    Ok(format!("({})", fields.join(", ")))
}

fn bindings(config: &WorkerConfig<'_>) -> Vec<String> {
    let settings = config.settings;
    let vars = settings.vars.iter().map(|(name, value)| match value {
        Value::String(value) => text_binding(name.as_str(), value),
        value => json_binding(name.as_str(), value),
    });
    let hosts = serde_json::to_string(config.hosts).expect("strings serialize to JSON");
    let secrets = config.secrets.iter().map(|name| environment_binding(name, &secret_variable(name)));
    let services = settings.bindings.iter().filter_map(|(name, binding)| {
        let target = service_for(name.as_str(), binding, config.service_workers)?;
        Some(service_binding(name.as_str(), &service_name(target)))
    });
    let objects = settings.durable_objects.iter().map(|class| {
        format!("(name = {}, durableObjectNamespace = {})", text(&class.binding), text(&class.class_name))
    });
    vars.chain(secrets)
        .chain([text_binding("METAMCP_HOSTS", &hosts), environment_binding(STATE_KEY, STATE_KEY)])
        .chain(services)
        .chain(objects)
        .collect()
}

/// Binding and environment variable of the key that signs what a server hands its clients to bring back.
pub(super) const STATE_KEY: &str = "METAMCP_STATE_KEY";

fn text_binding(name: &str, value: &str) -> String {
    format!("(name = {}, text = {})", text(name), text(value))
}

fn environment_binding(name: &str, variable: &str) -> String {
    format!("(name = {}, fromEnvironment = {})", text(name), text(variable))
}

fn service_worker(config: &WorkerConfig<'_>, worker: &ServiceWorker) -> Result<String> {
    let sources = worker.modules.iter().map(|(name, module)| (name.clone(), ModuleSource::Inline(module))).collect();
    Ok(format!(
        "(modules = {}, compatibilityDate = {}, globalOutbound = \"egress\")",
        modules(&worker.main_module, &sources)?,
        text(&config.settings.compatibility_date)
    ))
}

/// workerd takes the first module as the main one.
fn modules(main_module: &str, modules: &BTreeMap<String, ModuleSource<'_>>) -> Result<String> {
    let main = modules.get(main_module).ok_or_else(|| {
        Error::new(ErrorKind::BuildFailed, format!("main module {main_module:?} is not among the modules"))
    })?;
    let others = modules.iter().filter(|(name, _)| *name != main_module);
    let items = std::iter::once((main_module, main)).chain(others.map(|(name, source)| (name.as_str(), source)));
    let written = items.map(|(name, source)| module(name, source)).collect::<Result<Vec<_>>>()?;
    Ok(list(written))
}

fn module(name: &str, source: &ModuleSource<'_>) -> Result<String> {
    let (kind, value) = match source {
        ModuleSource::File(kind, path) => (*kind, format!("embed {}", text(utf8(path)?))),
        ModuleSource::Inline(module) => (module.kind, inline(name, module)?),
    };
    let field = match kind {
        ModuleKind::EsModule => "esModule",
        ModuleKind::Json => "json",
        ModuleKind::Text => "text",
        ModuleKind::Data => "data",
        ModuleKind::Wasm => "wasm",
    };
    Ok(format!("(name = {}, {field} = {value})", text(name)))
}

fn inline(name: &str, module: &Module) -> Result<String> {
    if matches!(module.kind, ModuleKind::Data | ModuleKind::Wasm) {
        return Ok(data(&module.content));
    }
    std::str::from_utf8(&module.content)
        .map(text)
        .map_err(|_| Error::new(ErrorKind::BuildFailed, format!("module {name:?} is not UTF-8 text")))
}

/// The embedded Worker a binding leads to.
fn service_for<'a>(name: &str, binding: &Binding, services: &'a BTreeMap<String, ServiceWorker>) -> Option<&'a str> {
    if !matches!(binding.kind, BindingKind::Service | BindingKind::Images) {
        return None;
    }
    services.get_key_value(binding.target.as_deref().unwrap_or(name)).map(|(target, _)| target.as_str())
}

fn service_name(target: &str) -> String {
    format!("service-{target}")
}

fn kind_name(kind: BindingKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, format!("path {} is not UTF-8", path.display()))
            .with_help("choose a data directory with a plain name")
    })
}

#[cfg(test)]
mod tests {
    use metamcp_core::DurableObjectClass;
    use serde_json::json;

    use super::*;

    fn settings() -> WorkerSettings {
        serde_json::from_value(json!({
            "name": "weather",
            "compatibilityDate": "2026-11-01",
            "vars": { "UNITS": "metric \"SI\"", "LIMITS": { "days": 7 } },
            "secrets": ["API_TOKEN", "UNSET"],
            "bindings": {
                "IMAGES": { "type": "images", "target": "pictures" },
                "MODEL": { "type": "ai", "optional": true }
            },
            "egress": [{ "host": "api.example.com" }, { "hostsBelow": "example.org" }, { "block": { "address": "10.1.0.0", "prefix": 16 } }],
            "limits": { "timeoutMs": 30000, "memoryMb": 256, "concurrency": 64, "responseBytes": 4_194_304 }
        }))
        .unwrap()
    }

    fn rendered(settings: &WorkerSettings) -> String {
        let module = |source: &str| Module { kind: ModuleKind::EsModule, content: source.to_owned().into() };
        let (index, runtime) = (module("export default {};\n"), PathBuf::from("/data/modules/1a2b"));
        let modules = BTreeMap::from([
            ("bodies/add.js".to_owned(), ModuleSource::Inline(&index)),
            ("index.js".to_owned(), ModuleSource::File(ModuleKind::EsModule, &runtime)),
        ]);
        let overrides = BTreeMap::from([("api.example.com".to_owned(), SocketAddr::from(([127, 0, 0, 1], 9)))]);
        let text = render(&WorkerConfig {
            settings,
            main_module: "index.js",
            modules: &modules,
            secrets: &["API_TOKEN".to_owned()],
            hosts: &["localhost".to_owned()],
            socket: Path::new("/run/1a2b/s"),
            unique_key: "4f5e",
            storage: Path::new("/data/state"),
            way_out: WayOut::Direct(&overrides),
            service_workers: &BTreeMap::from([(
                "pictures".to_owned(),
                ServiceWorker::from_source("export default {};"),
            )]),
        });
        // The gate's sources are not this snapshot's subject.
        let gate = [include_str!("egress.js"), metamcp_core::EgressLists::MATCHER];
        gate.iter().fold(text.unwrap(), |text, source| text.replace(&super::text(source), "\"…\""))
    }

    #[test]
    fn a_configuration_holds_what_the_settings_say_and_no_secret() {
        insta::assert_snapshot!(rendered(&settings()), @r##"
        using Workerd = import "/workerd/workerd.capnp";
        const config :Workerd.Config = (
          v8Flags = ["--max-old-space-size=256"],
          services = [
            (name = "main", worker = (modules = [(name = "index.js", esModule = embed "/data/modules/1a2b"), (name = "bodies/add.js", esModule = "export default {};\n")], compatibilityDate = "2026-11-01", compatibilityFlags = [], globalOutbound = "egress", bindings = [(name = "LIMITS", json = "{\"days\":7}"), (name = "UNITS", text = "metric \"SI\""), (name = "API_TOKEN", fromEnvironment = "METAMCP_SECRET_API_TOKEN"), (name = "METAMCP_HOSTS", text = "[\"localhost\"]"), (name = "METAMCP_STATE_KEY", fromEnvironment = "METAMCP_STATE_KEY"), (name = "IMAGES", service = "service-pictures")])),
            (name = "service-pictures", worker = (modules = [(name = "index.js", esModule = "export default {};")], compatibilityDate = "2026-11-01", globalOutbound = "egress")),
            (name = "egress", worker = (modules = [(name = "egress.js", esModule = "…"), (name = "egress_matcher.js", esModule = "…")], compatibilityDate = "2026-11-01", globalOutbound = "egress-blocks", bindings = [(name = "RULES", json = "{\"hosts\":[\"api.example.com\"],\"below\":[\"example.org\"],\"blocks\":[{\"bytes\":[10,1,0,0],\"prefix\":16}]}"), (name = "OVERRIDES", json = "{\"api.example.com\":\"OVERRIDE_0\"}"), (name = "PUBLIC", service = "egress-public"), (name = "BLOCKS", service = "egress-blocks"), (name = "OVERRIDE_0", service = "egress-override_0")])),
            (name = "egress-public", network = (allow = ["public"], deny = ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "::/3", "4000::/2", "8000::/1", "2001::/32", "2001:db8::/32", "2002::/16", "3fff::/20"], tlsOptions = (trustBrowserCas = true))),
            (name = "egress-blocks", network = (allow = ["10.1.0.0/16"], deny = [], tlsOptions = (trustBrowserCas = true))),
            (name = "egress-override_0", external = (address = "127.0.0.1:9", http = ()))
          ],
          sockets = [(name = "http", address = "unix:/run/1a2b/s", http = (), service = "main")],
        );
        "##);
    }

    #[test]
    fn durable_objects_are_kept_on_disk_under_the_servers_own_key() {
        let class = DurableObjectClass::new("COUNTER", "Counter");
        let mut settings = settings();
        settings.durable_objects = vec![class];
        let text = rendered(&settings);
        for part in [
            r#"(name = "COUNTER", durableObjectNamespace = "Counter")"#,
            r#"durableObjectNamespaces = [(className = "Counter", uniqueKey = "4f5e-Counter", enableSql = true)]"#,
            r#"durableObjectStorage = (localDisk = "state")"#,
            r#"(name = "state", disk = (path = "/data/state", writable = true))"#,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_main_module_that_is_missing_is_named() {
        let error = modules("index.js", &BTreeMap::new()).unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::BuildFailed, r#"main module "index.js" is not among the modules"#)
        );
    }
}
