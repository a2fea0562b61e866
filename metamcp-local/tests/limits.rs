//! Bodies that misbehave: their caller hears what happened, other servers do not notice, and the next call works.

mod live;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use live::{Client, ERAS, Era, Live};
use metamcp_core::ErrorKind;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Bodies that fail without taking their process along, and what their caller hears.
const FAILING: &[(&str, &str, &str)] = &[
    ("throws_error", "const x = 1;\nthrow new RangeError('too far');", "RangeError: too far (line 2 of the body)"),
    ("throws_string", "throw 'just text';", "just text"),
    ("throws_null", "throw null;", "the body threw null"),
    ("throws_undefined", "throw undefined;", "the body threw undefined"),
    (
        "throws_hostile",
        "const e = new Error();\nObject.defineProperty(e, 'message', { get() { throw e; } });\nthrow e;",
        "the body threw a value that cannot be described",
    ),
    (
        "throws_proxy",
        "throw new Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 2; }, ownKeys() { throw 3; } });",
        "cannot be described",
    ),
    ("throws_late", "setTimeout(() => { throw new Error('late'); }, 1);\nawait new Promise(() => {});", "timed out"),
    ("throws_50_mb", "throw new Error('x'.repeat(50_000_000));", "(50000000 characters in all) (line 1 of the body)"),
    ("returns_nothing", "const x = 1;", "the body returned nothing: return a value"),
    ("returns_undefined", "return undefined;", "the body returned nothing: return a value"),
    ("returns_function", "return () => 1;", "a function"),
    ("returns_text_of_50_mb", "return 'x'.repeat(50_000_000);", "50000000 bytes"),
    ("returns_json_of_50_mb", "return { text: 'x'.repeat(50_000_000) };", "bytes"),
    ("returns_block_of_50_mb", "return { content: [{ type: 'text', text: 'x'.repeat(50_000_000) }] };", "bytes"),
    (
        "returns_bytes_of_50_mb",
        "return { content: [{ type: 'image', mimeType: 'image/png', data: new Uint8Array(50_000_000) }] };",
        "bytes",
    ),
    (
        "returns_slow_getter",
        "return { get x() { return new Promise(() => {}); }, toJSON() { throw new Error('no json'); } };",
        "no json",
    ),
    ("never_resolves", "await new Promise(() => {});", "timed out after 1000 ms"),
    (
        "never_resolves_and_listens",
        "await new Promise((r) => ctx.signal.onabort = () => {});",
        "timed out after 1000 ms",
    ),
    ("yields_forever", "for (;;) await new Promise((r) => setTimeout(r, 1));", "timed out after 1000 ms"),
    ("recurses", "const f = () => f() + 1;\nreturn f();", "RangeError: Maximum call stack size exceeded"),
    (
        "recurses_in_json",
        "let x = []; for (let i = 0; i < 1e6; i += 1) x = [x];\nreturn x;",
        "Maximum call stack size exceeded",
    ),
    ("calls_itself", "return await ctx.callTool('calls_itself');", "nested more than 8 deep"),
];

/// Bodies that take their process along.
const KILLING: &[(&str, &str, &str)] = &[
    ("loops", "for (;;) {}", "caught in a loop"),
    ("loops_after_await", "await null;\nfor (;;) {}", "caught in a loop"),
    ("loops_in_microtasks", "for (;;) await null;", "caught in a loop"),
    ("matches_forever", "return /^(a+)+$/.test('a'.repeat(64) + 'b');", "caught in a loop"),
    ("fills_the_heap", "const kept = [];\nfor (;;) kept.push({ at: [kept.length] });", "ran out of memory"),
    ("fills_buffers", "const kept = [];\nfor (;;) kept.push(new Uint8Array(8_000_000).fill(1));", "ran out of memory"),
    (
        "fills_buffers_slowly",
        "const kept = [];\nfor (;;) { kept.push(new Uint8Array(8_000_000).fill(1)); await new Promise((r) => setTimeout(r, 1)); }",
        "ran out of memory",
    ),
];

/// Bodies that would leave the whole process changed, the runtime in it too.
const POLLUTING: &[(&str, &str)] = &[
    ("object_prototype", "Object.prototype.polluted = 'yes';\nObject.prototype.isError = true;\nreturn 1;"),
    ("to_json", "Object.prototype.toJSON = () => 'polluted';\nString.prototype.toJSON = () => 'polluted';\nreturn 1;"),
    ("json", "JSON.stringify = () => { throw new Error('polluted'); };\nJSON.parse = () => null;\nreturn 1;"),
    (
        "arrays",
        "for (const name of ['map', 'push', 'includes', 'filter', 'some']) Array.prototype[name] = () => 0;\nreturn 1;",
    ),
    ("iterators", "Array.prototype[Symbol.iterator] = function* () {};\nreturn 1;"),
    ("then", "Promise.prototype.then = () => new Promise(() => {});\nreturn 1;"),
    ("race", "Promise.race = () => new Promise(() => {});\nPromise.all = Promise.race;\nreturn 1;"),
    ("timers", "globalThis.setTimeout = () => 0;\nglobalThis.clearTimeout = () => 0;\nawait new Promise(() => {});"),
    ("response", "globalThis.Response = class { constructor() { throw new Error('polluted'); } };\nreturn 1;"),
    (
        "maps",
        "Map.prototype.get = () => undefined;\nWeakMap.prototype.get = () => () => new Promise(() => {});\nreturn 1;",
    ),
];

fn definition<'a>(name: &str, memory_mb: u64, bodies: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let tool = |(name, body): (&str, &str)| {
        // How fast memory fills up is the machine's affair: that it is full must be noticed before the deadline.
        let timeout_ms = if name.starts_with("fills") { 60_000 } else { 1_000 };
        json!({ "name": name, "description": "Misbehaves.", "limits": { "timeoutMs": timeout_ms }, "implementation": body })
    };
    let tools: Vec<_> = bodies.chain([("fine", "return 'fine';")]).map(tool).collect();
    json!({
        "name": name,
        "description": "A server in trouble.",
        "limits": { "timeoutMs": 1000, "memoryMb": memory_mb },
        "tools": tools
    })
}

/// A second server that is called all the time.
struct Steady {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    caller: JoinHandle<()>,
}

impl Steady {
    async fn start(live: &Live) -> Self {
        let deployment = live
            .deploy(json!({
                "name": "steady", "description": "Always there.",
                "tools": [{ "name": "add", "description": "Adds.", "parameters": { "a": { "type": "number" } },
                            "implementation": "return parameters.a + 1;" }]
            }))
            .await;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let caller = tokio::spawn(async move {
            let client = Client::connect(&deployment.url, Era::Discover).await;
            while !stopped.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                assert_eq!(client.text("add", json!({ "a": number })).await, (number + 1).to_string());
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, answered, caller }
    }

    /// Waits until it was answered once more: it is not stuck now.
    async fn is_answered(&self) {
        let seen = self.answered.load(Ordering::Relaxed);
        while self.answered.load(Ordering::Relaxed) <= seen {
            assert!(!self.caller.is_finished(), "a call of the steady server failed");
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) {
        self.is_answered().await;
        self.stop.store(true, Ordering::Relaxed);
        self.caller.await.expect("no call of the steady server failed");
    }
}

async fn fails_and_is_back(name: &str, memory_mb: u64, bodies: &[(&'static str, &'static str, &str)], eras: &[Era]) {
    let live = Live::open().await;
    let steady = Steady::start(&live).await;
    let deployment = live.deploy(definition(name, memory_mb, bodies.iter().map(|&(tool, body, _)| (tool, body)))).await;
    for &era in eras {
        let client = Client::connect(&deployment.url, era).await;
        for (tool, _, expected) in bodies {
            let heard = client.failure(tool, json!({})).await;
            assert!(heard.contains(expected), "{tool} in {era:?}: {}", heard.chars().take(500).collect::<String>());
            assert_eq!(client.text("fine", json!({})).await, "fine", "after {tool}");
            steady.is_answered().await;
        }
    }
    steady.stop().await;
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_fails_in_any_way_tells_its_caller_and_harms_nobody() {
    fails_and_is_back("failing", 1024, FAILING, &ERAS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_takes_its_process_along_tells_its_caller_and_the_next_call_works() {
    fails_and_is_back("killing", 128, KILLING, &[Era::Discover]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_of_such_a_body_hears_why_and_what_it_logged_before() {
    let live = Live::open().await;
    let bodies = [
        (
            "loops",
            "console.log('before the loop');\nfor (;;) {}",
            ErrorKind::TimedOut,
            "caught in a loop, and was stopped",
        ),
        (
            "fills",
            "console.log('before it is full');\nconst taken = [];\nfor (;;) taken.push(new Array(100_000).fill(Math.random()));",
            ErrorKind::LimitExceeded,
            "ran out of memory (limit 128 MiB)",
        ),
        (
            "answers",
            "console.log('before it is much');\nreturn 'x'.repeat(2_000_000);",
            ErrorKind::LimitExceeded,
            "answers more than 1048576 bytes",
        ),
    ];
    let definition = definition("tested", 128, bodies.iter().map(|&(tool, body, ..)| (tool, body)));
    let deployment = live.deploy(definition).await;
    let (deployments, key) = (live.meta.deployments(), deployment.server_id.into());
    for (tool, body, kind, expected) in bodies {
        let of_live = deployments.call_tool(&key, tool, serde_json::Map::new()).await.unwrap_err();
        assert_eq!((of_live.kind(), of_live.is_retryable()), (kind, false), "{of_live}");
        assert!(of_live.to_string().contains(expected), "{of_live}");
        let error = deployments.test_tool(&key, tool, serde_json::Map::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{error}");
        let error = error.to_string();
        let logged = body.split('\'').nth(1).unwrap();
        assert!(error.contains(expected) && error.contains(&format!("its log ends with: {logged}")), "{tool}: {error}");
        assert!(!error.contains("rmcp"), "{error}");
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_who_wait_for_a_process_that_is_killed_hear_why() {
    let live = Live::open().await;
    let bodies = [("loops", "for (;;) {}"), ("waits", "await new Promise((r) => setTimeout(r, 900));\nreturn 1;")];
    let deployment = live.deploy(definition("shared", 512, bodies.into_iter())).await;
    let client = Client::connect(&deployment.url, Era::Initialize).await;
    let (waited, looped) = tokio::join!(client.try_call("waits", json!({})), client.failure("loops", json!({})));
    assert!(looped.contains("caught in a loop"), "{looped}");
    if let Err(error) = waited {
        assert!(error.to_string().contains("caught in a loop"), "{error}");
    }
    assert_eq!(client.text("fine", json!({})).await, "fine");
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cannot_change_what_every_script_is_built_on() {
    let live = Live::open().await;
    let steady = Steady::start(&live).await;
    for &(tool, body) in POLLUTING {
        let name = format!("polluting-{}", tool.replace('_', "-"));
        let deployment = live.deploy(definition(&name, 512, [(tool, body)].into_iter())).await;
        for era in ERAS {
            let client = Client::connect(&deployment.url, era).await;
            let heard = client.failure(tool, json!({})).await;
            assert!(heard.starts_with("TypeError: Cannot ") && heard.contains("of the body)"), "{tool}: {heard}");
            assert_eq!(client.text("fine", json!({})).await, "fine", "after {tool}");
        }
        steady.is_answered().await;
        live.meta.deployments().remove(&deployment.server_id.into()).await.unwrap();
    }
    steady.stop().await;
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_does_not_pay_for_what_an_earlier_one_left_in_the_memory() {
    let live = Live::open().await;
    let bodies = [
        ("fills_and_leaves", "globalThis.left = new Uint8Array(190 * 1024 * 1024).fill(1);\nreturn 'left';"),
        (
            "rests",
            "await new Promise((r) => setTimeout(r, 400));\nreturn globalThis.left === undefined ? 'empty' : 'full';",
        ),
    ];
    let deployment = live.deploy(definition("littered", 128, bodies.into_iter())).await;
    let client = Client::connect(&deployment.url, Era::Discover).await;
    for _ in 0..3 {
        assert_eq!(client.text("fills_and_leaves", json!({})).await, "left");
        // The memory is looked at while one of these is under way.
        let mut rested = client.text("rests", json!({})).await;
        for _ in 0..10 {
            if rested == "empty" {
                break;
            }
            rested = client.text("rests", json!({})).await;
        }
        assert_eq!(rested, "empty", "a fresh process answers");
    }
    live.close().await;
}
