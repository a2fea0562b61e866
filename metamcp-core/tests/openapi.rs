//! Tools from OpenAPI documents.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use metamcp_core::{ApiImport, Error, ErrorKind, ImportOptions, ServerDefinition, ToolDefinition, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

const PETSTORE: &str = include_str!("openapi/petstore.yaml");

fn read(document: &Value) -> ApiImport {
    ApiImport::read(&document.to_string(), &ImportOptions::default()).unwrap()
}

/// A document of one operation.
fn document(path: &str, operation: &Value) -> Value {
    json!({ "openapi": "3.1.0", "servers": [{ "url": "https://api.example.com" }], "paths": { path: { "get": operation } } })
}

/// One whose operation sends a form. Its component `Form` has a file, and refers to itself.
fn multipart(schema: &Value) -> Value {
    let mut document =
        document("/a", &json!({ "requestBody": { "content": { "multipart/form-data": { "schema": schema } } } }));
    document["components"]["schemas"] = json!({
        "Form": { "properties": { "next": { "$ref": "#/components/schemas/Form" }, "f": { "$ref": "#/components/schemas/File" } } },
        "File": { "type": "string", "format": "binary" },
        "Text": { "properties": { "contentEncoding": { "example": { "format": "binary" } } } }
    });
    document
}

/// One that is read with a token, at a place of its own.
fn api(base: &str, operation: &str) -> ApiImport {
    let mut document = document("/a", &json!({ "operationId": operation, "security": [{ "token": [] }, {}] }));
    document["servers"][0]["url"] = base.into();
    document["components"]["securitySchemes"]["token"] = json!({ "type": "http", "scheme": "bearer" });
    read(&document)
}

fn only_reason(import: &ApiImport) -> String {
    let [skipped] = import.skipped.as_slice() else { panic!("one was expected: {import:?}") };
    format!("{}: {}", skipped.operation, skipped.reason)
}

fn empty() -> ServerDefinition {
    serde_json::from_value(json!({ "name": "pets", "description": "Pets." })).unwrap()
}

/// What a tool's body says that is not the same for all.
fn shown_body(tool: &ToolDefinition) -> Value {
    let line = tool.implementation.lines().next().unwrap();
    let operation = line.strip_prefix("const operation = ").unwrap().strip_suffix(';').unwrap();
    serde_json::from_str(operation).unwrap()
}

/// A tool as it is read, without the code that is the same for all.
fn shown(import: &ApiImport) -> Value {
    let tools = import.tools.iter().map(|tool| {
        let body = shown_body(tool);
        let mut tool = serde_json::to_value(tool).unwrap();
        tool["implementation"] = body;
        tool
    });
    json!({ "tools": tools.collect::<Vec<_>>(), "secrets": import.secrets, "hosts": import.hosts, "skipped": import.skipped })
}

#[test]
fn the_operations_of_a_document_become_tools() {
    let import = ApiImport::read(PETSTORE, &ImportOptions::default()).unwrap();
    insta::assert_json_snapshot!(shown(&import));
    let definition = import.add_to(&empty()).unwrap();
    assert_eq!(definition.egress.as_deref(), Some(["eu.pets.example.com".to_owned()].as_slice()));
    validate(&definition).unwrap();
    assert_eq!(import.add_to(&definition).unwrap(), definition, "the same again changes nothing");
}

#[test]
fn some_operations_can_be_chosen() {
    let names = |options: Value| {
        let options: ImportOptions = serde_json::from_value(options).unwrap();
        ApiImport::read(PETSTORE, &options)
            .map(|import| import.tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>())
    };
    assert_eq!(names(json!({ "tags": ["pets"] })).unwrap(), ["listPets", "pets_create", "GET_pets_petId"]);
    assert_eq!(names(json!({ "operations": ["report", "GET /pets"] })).unwrap(), ["listPets", "report"]);
    let error = names(json!({ "tags": ["pets", "cats"] })).unwrap_err();
    assert_eq!(error.to_string(), "the document has no tag \"cats\"; it has pets");
    let error = names(json!({ "operations": ["listPet"] })).unwrap_err();
    assert_eq!(error.to_string(), "the document has no operation \"listPet\"; did you mean \"listPets\"?");
}

#[test]
fn an_existing_server_keeps_what_it_has() {
    let import = read(&document("/a", &json!({ "operationId": "a" })));
    let mut definition = empty();
    definition.tools.push(
        serde_json::from_value(json!({ "name": "b", "description": "B.", "implementation": "return 1;" })).unwrap(),
    );
    let open = import.add_to(&definition).unwrap();
    assert_eq!((open.egress, open.tools.len()), (None, 2));
    definition.egress = Some(vec!["example.org".into()]);
    assert_eq!(import.add_to(&definition).unwrap().egress.unwrap(), ["example.org", "api.example.com"]);
    definition.tools[0].name = "A".into();
    assert_eq!(import.add_to(&definition).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn no_api_gets_the_secret_of_another() {
    const APART: &str = "TOKEN_B_EXAMPLE_COM_V1_9893C54B";
    let (one, other) = (api("https://a.example.com", "a"), api("https://b.example.com/v1", "b"));
    let mut definition = one.add_to(&empty()).unwrap();
    assert_eq!(definition.secrets, ["TOKEN"]);
    definition = other.add_to(&definition).unwrap();
    assert_eq!(definition.secrets, ["TOKEN", APART]);
    assert_eq!(other.beside(&definition).secrets, [APART]);
    let secret = |index: usize| shown_body(&definition.tools[index])["keys"][0]["secret"].clone();
    assert_eq!((secret(0), secret(1)), ("TOKEN".into(), APART.into()));
    validate(&definition).unwrap();
    for import in [&one, &other] {
        assert_eq!(import.add_to(&definition).unwrap(), definition, "the same again changes nothing");
    }
    let more = api("https://a.example.com/", "c").add_to(&definition).unwrap();
    assert_eq!(more.secrets, definition.secrets, "more of the same API has its secret");

    let mut own = empty();
    own.secrets = vec!["TOKEN".into()];
    assert_eq!(other.beside(&own).secrets, [APART], "nobody said whose it is");
    let own = other.add_to(&own).unwrap();
    assert_eq!(other.beside(&own).add_to(&own).unwrap(), own);
}

#[test]
fn what_an_import_wrote_can_be_replaced() {
    let old = api("https://a.example.com", "a").add_to(&empty()).unwrap();
    let import = api("https://b.example.com/v1", "a");
    let refused = import.add_to(&old).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert!(refused.to_string().contains("`replace`") && refused.to_string().contains("remove_mcp_tool"), "{refused}");
    let new = import.replace_in(&old).unwrap();
    assert_eq!(new.tools.len(), 1);
    assert_eq!(shown_body(&new.tools[0])["base"], "https://b.example.com/v1");
    assert_eq!(import.replace_in(&new).unwrap(), new);
    let mut others = old;
    others.tools[0].implementation = "return 1;".into();
    assert_eq!(import.replace_in(&others).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_key_that_an_api_can_do_without_is_sent_where_it_is_set() {
    let import = api("https://a.example.com", "a");
    assert_eq!(import.secrets, ["TOKEN"]);
    let body = shown_body(&import.tools[0]);
    assert_eq!((&body["optional"], &body["keys"][0]["secret"]), (&json!(true), &json!("TOKEN")));
    let open = json!({ "security": [{}, { "none": [] }] });
    assert_eq!(read(&document("/a", &open)).secrets, [""; 0], "what cannot be done is not needed");
}

#[test]
fn a_form_without_files_becomes_a_tool() {
    let import = read(&multipart(&json!({ "$ref": "#/components/schemas/Text" })));
    assert_eq!(import.tools.len(), 1, "{import:?}");
}

#[test]
fn what_cannot_be_taken_is_named_with_its_place() {
    let reasons: Vec<_> = [
        document("/a/{b}", &json!({})),
        document("/a/{b", &json!({})),
        document("/a/../b", &json!({})),
        document("/a", &json!({ "servers": [{ "url": "/v1" }] })),
        document("/a", &json!({ "servers": [{ "url": "http://api.example.com" }] })),
        document("/a", &json!({ "parameters": [{ "$ref": "other.yaml#/P" }] })),
        document("/a", &json!({ "parameters": [{ "$ref": "#/components/parameters/P" }] })),
        document("/a", &json!({ "parameters": [{ "in": "query" }] })),
        document("/a", &json!({ "parameters": [{ "name": "b", "in": "query", "style": "matrix" }] })),
        document("/a", &json!({ "parameters": [{ "name": "b", "in": "query", "schema": { "$ref": "#/paths/a" } }] })),
        document("/a", &json!({ "parameters": [{ "name": "b", "in": "query", "schema": { "type": "strin" } }] })),
        document("/a", &json!({ "security": [{ "none": [] }] })),
        document("/a", &json!({ "requestBody": { "required": true, "content": { "application/pdf": {} } } })),
        multipart(&json!({ "properties": { "f": { "format": "binary" } } })),
        multipart(&json!({ "$ref": "#/components/schemas/Form" })),
        multipart(&json!({ "properties": { "f": { "type": "string", "contentMediaType": "image/png" } } })),
        multipart(&json!({ "properties": { "f": { "type": "string", "contentEncoding": "base64" } } })),
    ]
    .iter()
    .map(|document| only_reason(&read(document)))
    .collect();
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn documents_that_are_none_are_refused() {
    let error = |text: &str| -> Error { ApiImport::read(text, &ImportOptions::default()).unwrap_err() };
    for (text, kind, said) in [
        ("{", ErrorKind::InvalidDefinition, "the document cannot be read"),
        ("a: [", ErrorKind::InvalidDefinition, "the document cannot be read"),
        ("", ErrorKind::InvalidDefinition, "has no field `openapi`"),
        ("{}", ErrorKind::InvalidDefinition, "has no field `openapi`"),
        (r#"{"swagger":"2.0"}"#, ErrorKind::Unsupported, "Swagger 2.0 is not read; convert it"),
        (r#"{"openapi":"4.0.0"}"#, ErrorKind::Unsupported, "OpenAPI \"4.0.0\" is not read"),
    ] {
        let error = error(text);
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
    // Aliases that grow without end are the parser's to refuse.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let last = n - 1;
        writeln!(bomb, "a{n}: &a{n} [{}]", vec![format!("*a{last}"); 9].join(", ")).unwrap();
    }
    assert_eq!(error(&bomb).kind(), ErrorKind::InvalidDefinition);
    assert_eq!(error(&" ".repeat(5 << 20)).kind(), ErrorKind::LimitExceeded);
    let mut elsewhere = ImportOptions::default();
    elsewhere.base_url = Some("ftp://a.example.com".parse().unwrap());
    let refused = ApiImport::read(PETSTORE, &elsewhere).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidDefinition, "{refused}");
    let paths: serde_json::Map<_, _> = (0..600).map(|n| (format!("/{n}"), json!({ "get": {} }))).collect();
    let many = json!({ "openapi": "3.1.0", "servers": [{ "url": "https://a.example.com" }], "paths": paths });
    assert_eq!(error(&many.to_string()).kind(), ErrorKind::LimitExceeded);
}

/// One tool of each document, or why there is none.
#[test]
fn a_document_makes_nothing_that_is_much_larger_than_itself() {
    let at = |url: &str, variables: &Value| {
        read(&document("/a", &json!({ "servers": [{ "url": url, "variables": variables }] })))
    };
    // Each variable is the next one four times over; what a variable stands for has none in it.
    let next = |n: usize| json!({ "default": format!("{{v{}}}", n + 1).repeat(4) });
    let nested: serde_json::Map<_, _> = (0..8).map(|n| (format!("v{n}"), next(n))).collect();
    let import = at("https://api.example.com/{v0}", &nested.into());
    assert_eq!(import.skipped, []);
    assert!(
        import.tools[0]
            .implementation
            .starts_with(r#"const operation = {"method":"GET","base":"https://api.example.com/%7Bv1%7D"#)
    );

    let long =
        at(&format!("https://api.example.com/{}", "{v}".repeat(100)), &json!({ "v": { "default": "x".repeat(100) } }));
    assert_eq!(only_reason(&long), "GET /a: /servers: the URL of the API has more than 2048 bytes");
    let written = at(&format!("https://api.example.com/{}", "x".repeat(10_000)), &json!({}));
    assert_eq!(only_reason(&written), only_reason(&long));
    let mut options = ImportOptions::default();
    options.base_url = format!("https://api.example.com/{}", "x".repeat(10_000)).parse().ok();
    let given = ApiImport::read(&document("/a", &json!({})).to_string(), &options).unwrap_err();
    assert!(given.to_string().contains("2048 bytes"), "{given}");

    let parameters: Vec<_> = (0..501).map(|n| json!({ "name": format!("p{n}"), "in": "query" })).collect();
    let many = read(&document("/a", &json!({ "parameters": parameters })));
    assert_eq!(only_reason(&many), "GET /a: /paths/~1a/get/parameters: are more than 500");
    let elsewhere = format!("other.yaml#/{}", "x".repeat(10_000));
    let reason = only_reason(&read(&document("/a", &json!({ "parameters": [{ "$ref": elsewhere }] }))));
    assert!(reason.chars().count() < 1_100, "{} characters", reason.chars().count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a document says, what is made of it is a valid definition, in which its texts are data.
    #[test]
    fn texts_of_a_document_are_never_code(
        id in "\\PC{0,80}", text in "[\\PC\u{2028}\n`$'\"\\\\*/{}]{0,60}", name in "\\PC{1,40}", place in "query|header|cookie",
    ) {
        let operation = json!({
            "operationId": id, "summary": text,
            "parameters": [{ "name": name, "in": place, "description": text, "schema": { "type": "string", "description": text } }]
        });
        let import = read(&document("/a", &operation));
        let definition = import.add_to(&empty()).unwrap();
        prop_assert!(validate(&definition).is_ok());
        if let Some(tool) = import.tools.first() {
            let line = tool.implementation.lines().next().unwrap();
            let literal = line.strip_prefix("const operation = ").and_then(|line| line.strip_suffix(';')).unwrap();
            let data: Value = serde_json::from_str(literal).unwrap();
            prop_assert_eq!(data["fields"][0]["name"].as_str(), Some(name.as_str()));
        }
    }
}
