//! Function bodies: what is refused, where, and that no body gets out of its function.

use metamcp_core::{ServerDefinition, validate};
use serde_json::json;

/// The problems of a body as `line:column message`.
fn problems(body: &str) -> Vec<String> {
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": "server",
        "description": "A server",
        "tools": [{ "name": "a_tool", "description": "Does a thing", "implementation": body }]
    }))
    .unwrap();
    let errors = validate(&definition).err();
    let problems = errors.iter().flat_map(|errors| errors.problems());
    let shown = problems.map(|problem| {
        assert_eq!(problem.pointer, "/tools/0/implementation");
        format!("{}:{} {}", problem.line.unwrap_or(0), problem.column.unwrap_or(0), problem.message)
    });
    shown.collect()
}

const REFUSED: &[&str] = &[
    "",
    " \n ",
    "} evil(); {",
    "}\nexport const x = 1;\nfunction y() {",
    "}); evil(); (function () {",
    "} export { x as y }; async function x() {",
    "return 1; }",
    "return {",
    "return (1;",
    "/* never closed",
    "return `never closed",
    "return 'never closed",
    "const parameters = 1;",
    "let env;",
    "const a = 1;\nlet b;\nconst a = 2;",
    "break;",
    "continue;",
    "with (env) { x }",
    "return this.#x;",
    "return super.x;",
    "super();",
    "<!-- html",
    "x\n--> html",
    "import x from 'x';",
    "export default 1;",
    "#!/usr/bin/env node",
    "return 010;",
    "delete x;",
    "arguments = 1;",
    "yield 1;",
    "let await = 1;",
    "return /[/;",
    "return /(?<a>x)(?<a>y)/;",
    "const x: number = 1; return x;",
    "interface A { x: string }\nreturn parameters as A;",
    "return <div/>;",
    "return eval('1');",
    "const f = new Function('return 1');\nreturn f() + Function('2')();",
    "if (x) {\n  return 1;\n",
    "const 🦀 = 1;",
    "const text = '🦀'; const const = 1;",
    "const a = 1; const a = 2; const b = 1; const b = 2;",
];

#[test]
fn refused_bodies_name_the_place_in_the_body() {
    let shown = REFUSED.iter().map(|body| format!("{body:?}\n    {}", problems(body).join("\n    ")));
    let shown: Vec<_> = shown.collect();
    insta::assert_snapshot!(shown.join("\n"), @"");
}

#[test]
fn honest_bodies_are_accepted() {
    let bodies = [
        "return 1",
        "return 1; // comment on the last line",
        "// only a comment",
        "const { a, b = 2 } = parameters; return a + b;",
        "await ctx.progress(1, 2); for await (const x of env.LIST) { if (x) break; }",
        "const { default: x } = await import('node:crypto'); return x;",
        "return import.meta.url;",
        "const evaluate = { eval: (x) => x }; return evaluate.eval('1');",
        "return typeof eval + typeof Function;",
        "function helper() { return new.target; } return helper();",
        "class A { #x = 1; get() { return this.#x; } } return new A().get();",
        "'use strict'; return '</script> */ `';",
        "return /[`'\"}]/u.test('}');",
        "label: for (;;) { break label; }",
        "\u{feff}return '\u{2028}';",
        "return arguments.length;",
        "\r\nreturn 1;\r\n",
    ];
    for body in bodies {
        assert_eq!(problems(body), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn lines_and_columns_are_the_bodys_own() {
    assert_eq!(problems("return 1;\nlet x = ;")[0].split(' ').next(), Some("2:9"));
    assert_eq!(problems("return 1;\r\nlet x = ;")[0].split(' ').next(), Some("2:9"));
    // Two UTF-16 units, as editors and the runtime count.
    assert_eq!(problems("let a = '🦀'; let x = ;")[0].split(' ').next(), Some("1:23"));
}

#[test]
fn bodies_that_nest_without_end_are_survived() {
    let units =
        ["(", "[", "{a:", "!", "a=>", "x?", "a=", "1+", "a.", "`${", "class{x=", "(a={b:", "f(", ";{", "if(1)", "new "];
    for unit in units {
        let body = format!("return {}", unit.repeat(20_000 / unit.len()));
        assert!(!problems(&body).is_empty(), "{unit}");
    }
    assert!(problems(&"(".repeat(200_000))[0].contains("tokens"));
    assert!(problems(&"a".repeat(300_000))[0].contains("bytes long"));
}

#[test]
fn at_most_twenty_problems_of_one_body_are_reported() {
    assert_eq!(problems(&"let a;".repeat(100)).len(), 20);
}
