//! Function bodies: what is refused, where, and that no body gets out of its function.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use metamcp_core::{ServerDefinition, ValidationErrors, validate};
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
    let problems = errors.iter().flat_map(ValidationErrors::problems);
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
    insta::assert_snapshot!(shown.join("\n"), @r##"
    ""
        0:0 is empty; write the body of a JavaScript function that returns its result
    " \n "
        0:0 is empty; write the body of a JavaScript function that returns its result
    "} evil(); {"
        1:1 closes the function here and goes on behind it; remove the unmatched `}`
    "}\nexport const x = 1;\nfunction y() {"
        1:1 closes the function here and goes on behind it; remove the unmatched `}`
    "}); evil(); (function () {"
        1:2 Unexpected token
    "} export { x as y }; async function x() {"
        1:1 closes the function here and goes on behind it; remove the unmatched `}`
    "return 1; }"
        1:12 the body ends too early, or has one closing bracket too many
    "return {"
        1:9 Expected `}` but found `EOF`
    "return (1;"
        1:10 Expected `,` or `)` but found `;`
    "/* never closed"
        1:1 Unterminated multiline comment
    "return `never closed"
        1:8 Unterminated string
    "return 'never closed"
        1:8 Unterminated string
    "const parameters = 1;"
        1:7 Identifier `parameters` has already been declared
    "let env;"
        1:5 Identifier `env` has already been declared
    "const a = 1;\nlet b;\nconst a = 2;"
        3:7 Identifier `a` has already been declared
    "break;"
        1:1 Illegal break statement (A `break` statement can only be used within an enclosing iteration or switch statement.)
    "continue;"
        1:1 Illegal continue statement: no surrounding iteration statement (A `continue` statement can only be used within an enclosing `for`, `while` or `do while` )
    "with (env) { x }"
        1:1 'with' statements are not allowed
    "return this.#x;"
        1:13 Private identifier '#x' is not allowed outside class bodies
    "return super.x;"
        1:8 'super' can only be referenced in members of derived classes or object literal expressions.
    "super();"
        1:1 Super calls are not permitted outside constructors or in nested functions inside constructors.
    "<!-- html"
        1:1 HTML comments are not allowed in modules
    "x\n--> html"
        2:3 Unexpected token
    "import x from 'x';"
        1:1 a body stands inside a function, so it cannot import or export; use `await import(…)`
    "export default 1;"
        1:1 a body stands inside a function, so it cannot import or export; use `await import(…)`
    "#!/usr/bin/env node"
        1:2 Invalid Character `!`
    "return 010;"
        1:8 '0'-prefixed octal literals and octal escape sequences are deprecated (for octal literals use the '0o' prefix instead)
    "delete x;"
        1:8 Delete of an unqualified identifier in strict mode.
    "arguments = 1;"
        1:1 Cannot assign to 'arguments' in strict mode
    "yield 1;"
        1:1 A 'yield' expression is only allowed in a generator body. (Either remove this `yield` or change the enclosing function to a generator function (`function*`))
    "let await = 1;"
        1:5 Cannot use `await` as an identifier in an async context
    "return /[/;"
        1:8 Unterminated regular expression
    "return /(?<a>x)(?<a>y)/;"
        1:12 Invalid regular expression: Duplicated capturing group names (Duplicate names must be in different alternatives)
    "const x: number = 1; return x;"
        1:7 the body is JavaScript, not TypeScript; remove the types
    "interface A { x: string }\nreturn parameters as A;"
        1:10 the body is JavaScript, not TypeScript; remove the types
    "return <div/>;"
        1:8 Unexpected JSX expression (JSX syntax is disabled and should be enabled via the parser options)
    "return eval('1');"
        1:8 `eval(…)` does not work: Workers run no code made from strings; write the code itself
    "const f = new Function('return 1');\nreturn f() + Function('2')();"
        1:15 `Function(…)` does not work: Workers run no code made from strings; write the code itself
        2:14 `Function(…)` does not work: Workers run no code made from strings; write the code itself
    "if (x) {\n  return 1;\n"
        3:1 Expected `}` but found `EOF`
    "const 🦀 = 1;"
        1:7 Invalid Character `🦀`
    "const text = '🦀'; const const = 1;"
        1:26 Identifier expected. 'const' is a reserved word that cannot be used here.
    "const a = 1; const a = 2; const b = 1; const b = 2;"
        1:20 Identifier `a` has already been declared
        1:46 Identifier `b` has already been declared
    "##);
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

#[test]
fn nesting_hidden_behind_regular_expressions_is_survived_too() {
    // To the count of brackets the rest of each line is a string.
    let body = "x = /\"/ + (\n".repeat(3_000);
    assert!(!problems(&body).is_empty());
}

#[test]
fn a_package_that_is_imported_but_not_declared_is_named_with_its_line() {
    let body = "const zod = await import('zod');\nreturn [\n  await import(`lodash`), await import(parameters.name),\n  \
                await import(\"@scope/name/deep\"), await import('node:fs'), await import('path'),\n  \
                await import('./other.js'), await import('cloudflare:workers'), \"import('not-code')\"];";
    assert_eq!(
        problems(body),
        [
            "1:26 imports the npm package \"zod\", which `dependencies` does not name; add it there with a version",
            "4:16 imports the npm package \"@scope/name\", which `dependencies` does not name; add it there with a version",
        ]
    );
}

#[test]
fn a_package_that_is_declared_may_be_imported_also_below_its_name() {
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": "server",
        "description": "A server",
        "dependencies": { "@scope/name": "1.0.0", "zod": "4.0.0" },
        "tools": [{
            "name": "a_tool",
            "description": "Does a thing",
            "implementation": "await import('zod'); await import('zod/v4'); await import('@scope/name/deep');"
        }]
    }))
    .unwrap();
    validate(&definition).unwrap();
}
