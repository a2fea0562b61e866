//! What the gate Worker is told: the rules of a server's `egress`, and the networks it may use.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use metamcp_core::{EgressLists, EgressRule};
use serde::Serialize;

use super::capnp::{list, text};

/// The modules of the gate Worker.
const GATE: [(&str, &str); 2] = [("egress.js", include_str!("egress.js")), ("egress_matcher.js", EgressLists::MATCHER)];
/// Source of what stands before the gate where that is another process.
const ANSWERING_GATE: &str = include_str!("gate.js");
/// Source of what stands before the way to such a gate.
const WAY_OUT: &str = include_str!("way_out.js");

/// The services that make up the way out, as capnp items: the gate (`egress`), its networks and the overrides.
pub(super) fn services(
    rules: Option<&[EgressRule]>,
    overrides: &BTreeMap<String, SocketAddr>,
    compatibility_date: &str,
) -> Vec<String> {
    ways_out(&GATE, rules, overrides, compatibility_date)
}

/// The services of a process with nothing but the gate, which answers through sockets: `egress`, and `health`.
pub(super) fn gate_services(
    rules: Option<&[EgressRule]>,
    overrides: &BTreeMap<String, SocketAddr>,
    compatibility_date: &str,
) -> Vec<String> {
    let health = format!(
        "(name = \"health\", worker = (modules = [(name = \"health.js\", esModule = {})], compatibilityDate = {}))",
        text("export default { fetch: () => new Response(\"ok\") };"),
        text(compatibility_date)
    );
    let modules = [&[("gate.js", ANSWERING_GATE)][..], &GATE].concat();
    let mut services = ways_out(&modules, rules, overrides, compatibility_date);
    services.push(health);
    services
}

/// The services of a process whose gate is another one, behind a socket.
pub(super) fn way_to(gate: &str, compatibility_date: &str) -> [String; 2] {
    [
        format!(
            "(name = \"egress\", worker = (modules = [(name = \"way_out.js\", esModule = {})], compatibilityDate = {}, \
             bindings = [{}]))",
            text(WAY_OUT),
            text(compatibility_date),
            service_binding("GATE", "egress-gate")
        ),
        format!(
            "(name = \"egress-gate\", external = (address = {}, http = (style = proxy)))",
            text(&format!("unix:{gate}"))
        ),
    ]
}

fn ways_out(
    modules: &[(&str, &str)],
    rules: Option<&[EgressRule]>,
    overrides: &BTreeMap<String, SocketAddr>,
    compatibility_date: &str,
) -> Vec<String> {
    let names: BTreeMap<&str, String> =
        overrides.keys().enumerate().map(|(index, host)| (host.as_str(), format!("OVERRIDE_{index}"))).collect();
    let mut bindings = vec![
        json_binding("RULES", &rules.map(EgressLists::from)),
        json_binding("OVERRIDES", &names),
        service_binding("PUBLIC", "egress-public"),
        service_binding("BLOCKS", "egress-blocks"),
    ];
    bindings.extend(names.values().map(|name| service_binding(name, &override_service(name))));
    let gate = format!(
        "(name = \"egress\", worker = (modules = {}, compatibilityDate = {}, \
         globalOutbound = \"egress-blocks\", bindings = {}))",
        list(modules.iter().map(|(name, source)| format!("(name = {}, esModule = {})", text(name), text(source)))),
        text(compatibility_date),
        list(bindings)
    );
    let mut services = vec![
        gate,
        // workerd's own idea of what is public is wider: it has test networks in it, and IPv6 that leads to IPv4.
        network("egress-public", &["public".to_owned()], &EgressLists::private_blocks().collect::<Vec<_>>()),
        network("egress-blocks", &blocks(rules.unwrap_or_default()), &[]),
    ];
    services.extend(overrides.iter().map(|(host, address)| {
        let name = override_service(&names[host.as_str()]);
        format!("(name = {}, external = (address = {}, http = ()))", text(&name), text(&address.to_string()))
    }));
    services
}

fn blocks(rules: &[EgressRule]) -> Vec<String> {
    rules
        .iter()
        .filter_map(|rule| match rule {
            EgressRule::Block { address, prefix } => Some(format!("{address}/{prefix}")),
            EgressRule::Host(_) | EgressRule::HostsBelow(_) => None,
        })
        .collect()
}

fn network(name: &str, allow: &[String], deny: &[String]) -> String {
    format!(
        "(name = {}, network = (allow = {}, deny = {}, tlsOptions = (trustBrowserCas = true)))",
        text(name),
        list(allow.iter().map(|block| text(block))),
        list(deny.iter().map(|block| text(block)))
    )
}

fn override_service(binding: &str) -> String {
    format!("egress-{}", binding.to_ascii_lowercase())
}

/// A binding to a service of the same configuration.
pub(super) fn service_binding(name: &str, service: &str) -> String {
    format!("(name = {}, service = {})", text(name), text(service))
}

/// A binding to a JSON value.
pub(super) fn json_binding(name: &str, value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("plain data serializes to JSON");
    format!("(name = {}, json = {})", text(name), text(&json))
}
