//! npm packages that a body imports although the definition does not name them: the import would fail at the call.

use std::collections::BTreeMap;

use oxc_ast::AstKind;
use oxc_ast::ast::{Expression, Program};
use oxc_semantic::SemanticBuilder;
use oxc_span::GetSpan as _;

/// Modules of Node.js, which are no packages. Their `node:` names need no list.
const BUILT_IN: [&str; 40] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "worker_threads",
    "zlib",
];

/// Imports by a literal `import("…")` of packages that are not declared: where each stands, and what is wrong. What is
/// computed at run time is not seen.
pub(super) fn undeclared<'a>(program: &'a Program<'a>, declared: &BTreeMap<String, String>) -> Vec<(usize, String)> {
    let semantic = SemanticBuilder::new().with_build_nodes(true).build(program).semantic;
    let imports = semantic.nodes().iter().filter_map(|node| {
        let AstKind::ImportExpression(import) = node.kind() else { return None };
        let Expression::StringLiteral(literal) = &import.source else { return None };
        let package = package_of(literal.value.as_str());
        (is_package(package) && !declared.contains_key(package))
            .then(|| (literal.span().start as usize, undeclared_message(package)))
    });
    imports.collect()
}

fn undeclared_message(package: &str) -> String {
    format!("imports the npm package {package:?}, which `dependencies` does not name; add it there with a version")
}

/// Neither a path or a URL, nor a module of the platform.
fn is_package(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['.', '/', '#']) && !name.contains(':') && !BUILT_IN.contains(&name)
}

/// `name` of `name/sub/path`, `@scope/name` of `@scope/name/sub/path`.
pub(crate) fn package_of(specifier: &str) -> &str {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    specifier.match_indices('/').nth(parts - 1).map_or(specifier, |(end, _)| &specifier[..end])
}
