//! The npm packages that bodies import.

use std::collections::{BTreeMap, BTreeSet};

use oxc_allocator::Allocator;
use oxc_ast::AstKind;
use oxc_ast::ast::Expression;
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;

use crate::codegen::BODIES_FOLDER;
use crate::source_tree::SourceTree;
use crate::validate::package_of;

/// What the bodies of a project import from these packages by `import("…")`, as it is written there: `zod`,
/// `lodash/fp`. Sorted; a name that is computed at run time is not seen.
pub fn package_imports(source: &SourceTree, dependencies: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let bodies = source.iter().filter(|(path, _)| path.starts_with(BODIES_FOLDER));
    for text in bodies.filter_map(|(_, content)| std::str::from_utf8(content).ok()) {
        let imports = literal_imports(text);
        found.extend(imports.into_iter().filter(|specifier| dependencies.contains_key(package_of(specifier))));
    }
    found
}

fn literal_imports(text: &str) -> Vec<String> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, SourceType::mjs()).parse();
    let program = allocator.alloc(parsed.program);
    let semantic = SemanticBuilder::new().with_build_nodes(true).build(program).semantic;
    let literals = semantic.nodes().iter().filter_map(|node| {
        let AstKind::ImportExpression(import) = node.kind() else { return None };
        let Expression::StringLiteral(literal) = &import.source else { return None };
        Some(literal.value.to_string())
    });
    literals.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_of_declared_packages_are_found_as_written() {
        let mut source = SourceTree::new();
        let body = r#"export default async function () {
            const { default: isOdd } = await import("is-odd"), fp = await import('lodash/fp');
            await import("@scope/name/deep"); await import("node:fs"); await import("unknown"); await import(name);
            return "import('zod')";
        }"#;
        source.insert("src/bodies/a-1.js", body).unwrap();
        source.insert("src/index.ts", "await import('zod')").unwrap();
        let dependencies = ["is-odd", "lodash", "@scope/name", "zod"].map(|name| (name.to_owned(), "1".to_owned()));
        let found = package_imports(&source, &dependencies.into());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["@scope/name/deep", "is-odd", "lodash/fp"]);
    }
}
