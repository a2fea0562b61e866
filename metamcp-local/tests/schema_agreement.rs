//! A running Worker says of values what validation says: the hand-written cases through a deployed server, generated
//! ones by the thousand through the runtime's own module in workerd.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod live;
#[path = "../../metamcp-core/tests/schema_cases/mod.rs"]
mod schema_cases;
mod schema_generated;

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use futures::{StreamExt, stream};
use live::{ERAS, Live};
use metamcp_core::bundle::Toolchain;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use schema_cases::{cases, verdicts};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

/// Calls at once.
const CALLS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_server_says_of_every_case_what_validation_says() {
    let cases: Vec<_> = cases().into_values().flatten().collect();
    let tools: Vec<_> = cases.iter().enumerate().flat_map(|(index, case)| tools(index, &case.schema)).collect();
    let live = Live::open().await;
    let definition = json!({ "name": "agreement", "description": "A tool for each schema.", "tools": tools });
    let deployment = live.deploy(definition).await;

    let calls = cases.iter().enumerate().flat_map(|(index, case)| {
        case.values().flat_map(move |(value, expected)| {
            let by = |name: &str| (format!("{name}_{index}"), value.clone(), expected);
            [by("takes"), by("gives")]
        })
    });
    let client = reqwest::Client::new();
    let mut asked = 0;
    // One era a call, so that both are asked much the same.
    let different: Vec<String> = stream::iter(calls.zip(ERAS.into_iter().cycle()))
        .map(|((tool, value, expected), era)| {
            let params = json!({ "name": tool, "arguments": { "value": value } });
            let request = live::http::prepare_with(&client, deployment.url.as_str(), era, "tools/call", &params);
            async move {
                let answer = live::http::Answer::of(request.send().await.unwrap()).await;
                (answer.result()["isError"] == json!(true), answer, tool, value, expected)
            }
        })
        .buffer_unordered(CALLS)
        .inspect(|_| asked += 1)
        .filter_map(|(refused, answer, tool, value, expected)| async move {
            (refused == expected).then(|| format!("{tool} of {value}, which is {expected}: {answer:?}"))
        })
        .collect()
        .await;
    assert!(asked > 3_000, "{asked} calls");
    assert!(different.is_empty(), "{} of {asked}:\n{}", different.len(), different.join("\n"));
    live.close().await;
}

/// A tool that takes values as a schema wants them, and one that gives any value as if it were so.
fn tools(index: usize, schema: &Value) -> [Value; 2] {
    let mut within = schema.clone();
    // As a property it is a document in a document, so that `#` keeps its meaning.
    within.as_object_mut().unwrap().entry("$id").or_insert_with(|| format!("https://cases.test/{index}").into());
    [
        json!({
            "name": format!("takes_{index}"),
            "description": "Takes a value.",
            "parameters": { "type": "object", "properties": { "value": within }, "required": ["value"] },
            "implementation": "return 'taken';"
        }),
        json!({
            "name": format!("gives_{index}"),
            "description": "Gives a value.",
            "outputSchema": schema,
            "implementation": "return { content: [], structuredContent: parameters.value };",
            "parameters": { "type": "object" }
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_double_holds_are_refused_as_what_they_are() {
    let live = Live::open().await;
    let tool = json!({ "name": "any", "description": "Takes all.", "parameters": { "type": "object" }, "implementation": "return parameters;" });
    let deployment = live.deploy(json!({ "name": "numbers", "description": "One tool.", "tools": [tool] })).await;
    for number in ["1e400", "-1E+309", "[1, 1e999]", "{\"a\": 17976931348623157e300}", &"9".repeat(400)] {
        assert!(serde_json::from_str::<Value>(number).is_err());
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"any","arguments":{{"a":{number}}}}}}}"#
        );
        let answer = live::http::post(deployment.url.as_str()).body(body).send().await.unwrap();
        let answer = live::http::Answer::of(answer).await;
        assert_eq!((answer.status, answer.error_code()), (400, -32700), "{number}: {answer:?}");
        assert!(answer.last()["error"]["message"].as_str().unwrap().contains("out of range"), "{answer:?}");
    }
    for number in ["1e308", "1e-400", "\"1e400\"", "5"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"any","arguments":{{"a":{number}}}}}}}"#
        );
        let answer = live::http::post(deployment.url.as_str()).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{number}");
    }
    live.close().await;
}

/// Schemas that are generated, each with 16 values.
const SCHEMAS: u32 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_and_validation_agree_on_generated_schemas() {
    let worker = Worker::start().await;
    let handle = Handle::current();
    let compared = tokio::task::spawn_blocking(move || {
        let compared = Cell::new(Compared::default());
        let config =
            Config { cases: SCHEMAS, max_global_rejects: 100_000, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(&schema_generated::pairs(), |(schema, values)| {
            compared.set(compare(&schema, &values, &worker, &handle)?.and(compared.get()));
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
        compared.get()
    });
    let Compared { schemas, valid, invalid } = compared.await.unwrap();
    assert!(valid.min(invalid) >= schemas, "{schemas} schemas, {valid} valid and {invalid} invalid values");
}

/// What was compared without a difference.
#[derive(Clone, Copy, Default)]
struct Compared {
    schemas: usize,
    valid: usize,
    invalid: usize,
}

impl Compared {
    fn and(self, other: Self) -> Self {
        Self {
            schemas: self.schemas + other.schemas,
            valid: self.valid + other.valid,
            invalid: self.invalid + other.invalid,
        }
    }
}

/// Asks validation, the crate by itself, and the Worker.
fn compare(schema: &Value, values: &[Value], worker: &Worker, handle: &Handle) -> Result<Compared, TestCaseError> {
    let verdicts = verdicts(schema, values).map_err(|problems| {
        // Refused when it was defined, which names the place: there is nothing to compare.
        assert!(problems.iter().all(|problem| problem.pointer.starts_with("/tools/0/outputSchema/")), "{problems:?}");
        TestCaseError::reject("refused")
    })?;
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).offline();
    let by_itself = options.should_validate_formats(true).build(schema).unwrap();
    let answers = handle.block_on(worker.check(schema, values)).map_err(TestCaseError::fail)?;
    for ((value, verdict), answer) in values.iter().zip(&verdicts).zip(&answers) {
        let crate_says = by_itself.is_valid(value);
        if answer.is_null() != *verdict || (crate_says != *verdict && !is_beyond_the_crate(schema, value)) {
            let message = format!("{value}: the Worker says {answer}, validation {verdict}, the crate {crate_says}");
            return Err(TestCaseError::fail(message));
        }
    }
    let valid = verdicts.iter().filter(|verdict| **verdict).count();
    Ok(Compared { schemas: 1, valid, invalid: verdicts.len() - valid })
}

/// By itself it goes by doubles for multiples of fractions where numbers have many digits, and takes escapes for regular
/// expressions that JavaScript's `u` mode does not know (`\:`).
fn is_beyond_the_crate(schema: &Value, value: &Value) -> bool {
    let (schema, value) = (schema.to_string(), value.to_string());
    (schema.contains("multipleOf") && value.contains(['e', '.']))
        || (schema.contains(r#""format":"regex""#) && value.contains('\\'))
}

/// The runtime's module of schemas, in workerd.
struct Worker {
    client: reqwest::Client,
    url: String,
    /// Killed when it is dropped.
    _workerd: Child,
    _folder: TempDir,
}

const ENTRY: &str = "
import { createCheck } from SCHEMA;
export default {
  async fetch(request) {
    const { schema, values } = await request.json();
    const check = createCheck(schema);
    return Response.json(values.map((value) => check(value) ?? null));
  },
};
";

impl Worker {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = Toolchain::install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")).await.unwrap();
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/runtime/src/schema.ts");
        let entry = folder.path().join("entry.js");
        std::fs::write(&entry, ENTRY.replace("SCHEMA", &json!(runtime).to_string())).unwrap();
        let bundled = Command::new(toolchain.esbuild())
            .args(["--bundle", "--format=esm", "--outfile=worker.js"])
            .arg(&entry)
            .current_dir(folder.path())
            .output()
            .await
            .unwrap();
        assert!(bundled.status.success(), "{}", String::from_utf8_lossy(&bundled.stderr));
        let mut configuration = "using Workerd = import \"/workerd/workerd.capnp\";\n".to_owned();
        write!(
            configuration,
            "const config :Workerd.Config = (\n\
               services = [(name = \"main\", worker = (modules = [(name = \"worker\", esModule = embed \"worker.js\")],\n\
                 compatibilityDate = {:?}))],\n\
               sockets = [(name = \"http\", address = \"127.0.0.1:0\", http = (), service = \"main\")],\n\
             );\n",
            metamcp_core::COMPATIBILITY_DATE,
        )
        .unwrap();
        std::fs::write(folder.path().join("config.capnp"), configuration).unwrap();
        let mut workerd = Command::new(toolchain.workerd())
            .args(["serve", "config.capnp", "--control-fd=1"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(workerd.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("workerd says where it listens");
        let event: Value = serde_json::from_str(&line).unwrap();
        let url = format!("http://127.0.0.1:{}/", event["port"]);
        Self { client: reqwest::Client::new(), url, _workerd: workerd, _folder: folder }
    }

    /// What is wrong with each value, or null.
    async fn check(&self, schema: &Value, values: &[Value]) -> Result<Vec<Value>, String> {
        let question = json!({ "schema": schema, "values": values });
        let answer = self.client.post(&self.url).json(&question).send().await.map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }
}
