//! Access tokens at the guard: which are taken, what they allow, and what is said to those without.

use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use metamcp_core::server::{Authentication, HttpConfig, OAuthConfig, serve_http};
use metamcp_core::{ErrorKind, Scope};
use reqwest::Response;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::authority::{Authority, Fault, SigningKey, from_now};
use super::guard::{Guarded, LIMIT, call_message, header};
use super::memory;

const METADATA: &str = "/.well-known/oauth-authorization-server";

/// A guarded server, and the issuer whose tokens it takes.
struct Setup {
    authority: Authority,
    key: SigningKey,
    guarded: Guarded,
}

impl Setup {
    async fn start() -> Self {
        Self::start_with(|oauth| HttpConfig::new().with_oauth(oauth)).await
    }

    async fn start_with(config: impl FnOnce(OAuthConfig) -> HttpConfig) -> Self {
        let authority = Authority::start("", METADATA).await;
        let key = SigningKey::new("first", Algorithm::ES256);
        authority.add(&key);
        let guarded = Guarded::start_with(config(OAuthConfig::new(&authority.issuer))).await;
        Self { authority, key, guarded }
    }

    fn resource(&self) -> &str {
        self.guarded.server.url().as_str()
    }

    fn claims(&self, scope: &str) -> Value {
        self.authority.claims(self.resource(), scope)
    }

    /// A good token of these scopes.
    fn token(&self, scope: &str) -> String {
        self.key.sign(&self.claims(scope))
    }

    async fn call(&self, token: &str, tool: &str, arguments: Value) -> Response {
        self.guarded.post(token, &call_message(tool, &arguments)).send().await.unwrap()
    }

    /// The status, the challenge and the text that a call with this token is answered by.
    async fn answer(&self, token: &str) -> (u16, String, String) {
        let response = self.call(token, "list_templates", json!({})).await;
        let challenge = header(&response, "www-authenticate").to_owned();
        (response.status().as_u16(), challenge, response.text().await.unwrap())
    }

    async fn status(&self, token: &str) -> u16 {
        self.answer(token).await.0
    }

    /// Without what differs from run to run.
    fn stable(&self, text: &str) -> String {
        let here = self.guarded.server.url().origin().ascii_serialization();
        text.replace(&here, "http://HERE").replace(&self.authority.issuer, "http://ISSUER")
    }
}

#[tokio::test]
async fn tokens_of_every_algorithm_that_can_be_published_let_in_for_their_scopes() {
    let setup = Setup::start().await;
    let algorithms = [
        ("rs256", Algorithm::RS256),
        ("rs384", Algorithm::RS384),
        ("rs512", Algorithm::RS512),
        ("ps256", Algorithm::PS256),
        ("ps384", Algorithm::PS384),
        ("ps512", Algorithm::PS512),
        ("es256", Algorithm::ES256),
        ("es384", Algorithm::ES384),
        ("eddsa", Algorithm::EdDSA),
    ];
    let keys = algorithms.map(|(id, algorithm)| SigningKey::new(id, algorithm));
    setup.authority.set_keys(keys.iter().map(SigningKey::public).collect());
    for key in &keys {
        assert_eq!(setup.status(&key.sign(&setup.claims("read"))).await, 200, "{:?}", key.algorithm);
        // A key without the id of one is looked for among all of its algorithm.
        let anonymous = key.sign_as(&setup.claims("read"), |header| header.kid = None);
        assert_eq!(setup.status(&anonymous).await, 200, "{:?}", key.algorithm);
    }
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let token = keys[0].sign(&setup.claims("openid call profile metamcp:exec other:admin"));
    let listed: Value = setup.guarded.post(&token, &list).send().await.unwrap().json().await.unwrap();
    let tools = listed["result"]["tools"].as_array().unwrap();
    let has = |name: &str| tools.iter().any(|tool| tool["name"] == name);
    assert!(has("call_mcp_tool") && has("execute_in_container"), "{listed}");
    assert!(!has("list_mcp_servers") && !has("create_api_key"), "{listed}");
}

#[tokio::test]
async fn what_a_token_may_say_differently_is_taken_too() {
    let setup = Setup::start().await;
    let claims = |change: Value| {
        let mut claims = setup.claims("read");
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        claims
    };
    for claims in [
        claims(json!({ "aud": ["https://other.example", setup.resource()] })),
        claims(json!({ "scope": null, "scp": "read" })),
        claims(json!({ "scope": null, "scp": ["write", "read"] })),
        claims(json!({ "scope": "metamcp:read" })),
        claims(json!({ "exp": from_now(-10), "nbf": from_now(10) })),
    ] {
        assert_eq!(setup.status(&setup.key.sign(&claims)).await, 200, "{claims}");
    }
    for typ in [None, Some("JWT"), Some("jwt"), Some("application/at+jwt")] {
        let token = setup.key.sign_as(&setup.claims("read"), |header| header.typ = typ.map(str::to_owned));
        assert_eq!(setup.status(&token).await, 200, "{typ:?}");
    }
}

#[tokio::test]
async fn tokens_that_are_not_for_this_server_are_refused_with_the_reason() {
    let setup = Setup::start().await;
    let good = setup.claims("admin");
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        setup.key.sign(&claims)
    };
    let typed = |typ: &str| setup.key.sign_as(&good, |header| header.typ = Some(typ.to_owned()));
    let stranger = SigningKey::new("first", Algorithm::ES256);
    let public = serde_json::to_vec(&setup.key.public()).unwrap();
    let point = [setup.key.public()["x"].as_str().unwrap(), setup.key.public()["y"].as_str().unwrap()].concat();
    let by_secret = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("first".to_owned());
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret).unwrap()).unwrap()
    };
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = |alg: &str| format!("{}.{}.", encoded(&json!({ "alg": alg, "kid": "first" })), encoded(&good));
    let valid = setup.key.sign(&good);
    let (rest, signature) = valid.rsplit_once('.').unwrap();
    let (head, _) = rest.split_once('.').unwrap();
    let mut other = good.clone();
    other["sub"] = "eve".into();
    for (token, reason) in [
        (with("exp", from_now(-120).into()), "has expired"),
        (with("nbf", from_now(120).into()), "not valid yet"),
        (with("aud", "https://other.example/mcp".into()), "another audience"),
        (with("aud", json!([])), "another audience"),
        (with("aud", setup.resource().replace("/mcp", "").into()), "another audience"),
        (with("iss", "https://other.example".into()), "another issuer"),
        (with("iss", format!("{}/", setup.authority.issuer).into()), "another issuer"),
        (with("iss", json!([setup.authority.issuer])), "no signed JWT with iss"),
        (with("exp", Value::Null), "no signed JWT with iss"),
        (with("aud", Value::Null), "no signed JWT with iss"),
        (with("sub", Value::Null), "no signed JWT with iss"),
        (with("sub", " ".into()), "subject is empty"),
        (with("sub", "x".repeat(256).into()), "subject is empty or too long"),
        (with("cnf", json!({ "jkt": "x" })), "bound to a key"),
        (typed("logout+jwt"), "its typ is not"),
        (typed("dpop+jwt"), "its typ is not"),
        (stranger.sign(&good), "signature is wrong"),
        (stranger.sign_as(&good, |header| header.kid = Some("other".to_owned())), "not signed by a key"),
        (stranger.sign_as(&good, |header| header.kid = None), "not signed by a key"),
        (SigningKey::new("first", Algorithm::ES384).sign(&good), "not signed by a key"),
        (SigningKey::new("first", Algorithm::EdDSA).sign(&good), "not signed by a key"),
        (by_secret(&public), "not signed with an algorithm"),
        (by_secret(point.as_bytes()), "not signed with an algorithm"),
        (unsigned("none"), "no signed JWT"),
        (unsigned("None"), "no signed JWT"),
        (unsigned("ES256"), "signature is wrong"),
        (format!("{rest}."), "signature is wrong"),
        (format!("{head}.{}.{signature}", encoded(&other)), "signature is wrong"),
        ("a.b.c".to_owned(), "no signed JWT"),
        ("..".to_owned(), "no signed JWT"),
        (format!("{}.b.c", "a".repeat(20_000)), "no signed JWT"),
    ] {
        let (status, challenge, text) = setup.answer(&token).await;
        assert_eq!(status, 401, "{reason}: {text}");
        assert!(text.contains(reason) && text.contains("access token is not valid"), "{reason}: {text}");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\", resource_metadata=\""), "{challenge}");
    }
    assert_eq!(setup.status(&valid).await, 200);
}

#[tokio::test]
async fn who_has_no_token_is_led_to_the_issuer() {
    let setup = Setup::start().await;
    let message = call_message("list_templates", &json!({}));
    let response = setup.guarded.http.post(setup.resource()).json(&message).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 401);
    insta::assert_snapshot!(
        setup.stable(header(&response, "www-authenticate")),
        @r#"Bearer resource_metadata="http://HERE/.well-known/oauth-protected-resource/mcp", scope="read call write deploy""#
    );
    assert!(response.text().await.unwrap().contains("an access token or an API key is needed"));

    for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"] {
        let url = setup.guarded.server.url().join(path).unwrap();
        let response = setup.guarded.http.get(url.clone()).send().await.unwrap();
        assert_eq!(header(&response, "content-type"), "application/json");
        let document = setup.stable(&response.text().await.unwrap());
        insta::allow_duplicates! {
            insta::assert_snapshot!(document, @r#"{"authorization_servers":["http://ISSUER"],"bearer_methods_supported":["header"],"resource":"http://HERE/mcp","resource_name":"Meta-MCP","scopes_supported":["read","call","write","deploy","exec","admin"]}"#);
        }
        let posted = setup.guarded.http.post(url).send().await.unwrap();
        assert_eq!((posted.status().as_u16(), header(&posted, "allow")), (405, "GET, HEAD"));
    }
    let keys_only = Guarded::start().await;
    let url = keys_only.server.url().join("/.well-known/oauth-protected-resource/mcp").unwrap();
    assert_eq!(keys_only.http.get(url).send().await.unwrap().status().as_u16(), 404);
    assert_eq!(keys_only.post(&setup.token("read"), &message).send().await.unwrap().status().as_u16(), 401);
}

#[tokio::test]
async fn a_missing_scope_is_named_beside_those_that_are_held() {
    let setup = Setup::start().await;
    let response = setup.call(&setup.token("read call"), "add_mcp_tool", json!({})).await;
    assert_eq!(response.status().as_u16(), 403);
    insta::assert_snapshot!(
        setup.stable(header(&response, "www-authenticate")),
        @r#"Bearer error="insufficient_scope", resource_metadata="http://HERE/.well-known/oauth-protected-resource/mcp", scope="read call write""#
    );
    let said = response.text().await.unwrap();
    insta::assert_snapshot!(
        said,
        @r#"{"error":"add_mcp_tool needs scope write, which the caller has not"}"#
    );
}

#[tokio::test]
async fn scopes_can_be_told_apart_from_those_of_other_servers() {
    let authority = Authority::start("", METADATA).await;
    let key = SigningKey::new("first", Algorithm::ES256);
    authority.add(&key);
    let public = "https://mcp.example.com/tools/mcp".parse().unwrap();
    let oauth = OAuthConfig::new(&authority.issuer).with_resource(public).with_prefixed_scopes();
    let guarded = Guarded::start_with(HttpConfig::new().with_oauth(oauth.with_audience("tools-api"))).await;
    let message = call_message("list_templates", &json!({}));
    let answer = async |scope: &str| {
        let token = key.sign(&authority.claims("tools-api", scope));
        guarded.post(&token, &message).header("host", "mcp.example.com").send().await.unwrap()
    };
    assert_eq!(answer("metamcp:read").await.status().as_u16(), 200);
    let refused = answer("read").await;
    let expected = "Bearer error=\"insufficient_scope\", resource_metadata=\"https://mcp.example.com\
                    /.well-known/oauth-protected-resource/tools/mcp\", scope=\"metamcp:read\"";
    assert_eq!((refused.status().as_u16(), header(&refused, "www-authenticate")), (403, expected));
}

#[tokio::test]
async fn issuers_with_a_path_and_those_of_openid_are_found() {
    for (path, metadata) in [
        ("", "/.well-known/openid-configuration"),
        ("/", METADATA),
        ("/tenant/1", "/.well-known/oauth-authorization-server/tenant/1"),
        ("/tenant/1", "/.well-known/openid-configuration/tenant/1"),
        ("/tenant/1", "/tenant/1/.well-known/openid-configuration"),
    ] {
        let authority = Authority::start(path, metadata).await;
        let key = SigningKey::new("first", Algorithm::EdDSA);
        authority.add(&key);
        let guarded = Guarded::start_with(HttpConfig::new().with_oauth(OAuthConfig::new(&authority.issuer))).await;
        let token = key.sign(&authority.claims(guarded.server.url().as_str(), "read"));
        let response = guarded.post(&token, &call_message("list_templates", &json!({}))).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path} {metadata}");
    }
}

#[tokio::test]
async fn a_new_key_is_looked_up_and_a_flood_of_unknown_ones_is_not() {
    let setup = Setup::start().await;
    assert_eq!(setup.status(&setup.token("read")).await, 200);
    let second = SigningKey::new("second", Algorithm::RS256);
    let token = second.sign(&setup.claims("read"));
    assert_eq!(setup.status(&token).await, 401);
    setup.authority.set_keys(vec![second.public()]);
    assert_eq!(setup.status(&token).await, 200);
    // The old one is gone with that.
    assert_eq!(setup.status(&setup.token("read")).await, 401);
    for _ in 0..50 {
        let unknown = second.sign_as(&setup.claims("read"), |header| header.kid = Some("unknown".to_owned()));
        assert_eq!(setup.status(&unknown).await, 401);
    }
    assert_eq!(setup.status(&token).await, 200);
    // Five at once; one more for each ten seconds that this test may have taken.
    assert!(setup.authority.looked_up() <= 10, "{}", setup.authority.looked_up());
}

#[tokio::test]
async fn nobody_gets_in_by_a_token_while_the_issuers_keys_cannot_be_had() {
    for fault in [Fault::Down, Fault::LargeKeys, Fault::SlowKeys, Fault::OtherIssuer, Fault::PlainKeys] {
        // Only what never comes is not waited for.
        let patience = Duration::from_secs(if fault == Fault::SlowKeys { 1 } else { 30 });
        let setup = Setup::start_with(|oauth| HttpConfig::new().with_oauth(oauth.with_fetch_timeout(patience))).await;
        setup.authority.set_fault(fault);
        let response = timeout(LIMIT, setup.call(&setup.token("admin"), "list_templates", json!({}))).await.unwrap();
        let answered = (response.status().as_u16(), header(&response, "retry-after"));
        assert_eq!(answered, (503, "10"), "{fault:?}");
        assert!(response.text().await.unwrap().contains("the issuer's keys cannot be had"), "{fault:?}");
        let (_, key) = setup.guarded.key(&[Scope::Read]).await;
        assert_eq!(setup.status(key.expose_secret()).await, 200, "{fault:?}");

        setup.authority.set_fault(Fault::None);
        assert_eq!(setup.status(&setup.token("read")).await, 200, "{fault:?}");
        // What is known holds for a while.
        setup.authority.set_fault(fault);
        assert_eq!(setup.status(&setup.token("read")).await, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn many_at_once_wait_for_one_look_up() {
    let setup = Setup::start().await;
    let token = setup.token("read");
    let statuses = futures::future::join_all((0..40).map(|_| setup.status(&token))).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(setup.authority.looked_up(), 1);
}

#[tokio::test]
async fn a_token_in_the_url_is_refused() {
    let setup = Setup::start().await;
    let (token, message) = (setup.token("read"), call_message("list_templates", &json!({})));
    let mut url = setup.guarded.server.url().clone();
    url.set_query(Some(&format!("access_token={token}")));
    let alone = setup.guarded.http.post(url.clone()).json(&message).send().await.unwrap();
    assert_eq!(alone.status().as_u16(), 401);
    let beside = setup.guarded.http.post(url).bearer_auth(&token).json(&message).send().await.unwrap();
    assert_eq!(beside.status().as_u16(), 400);
    assert!(header(&beside, "www-authenticate").contains("error=\"invalid_request\""));
}

#[tokio::test]
async fn a_subject_has_one_rate_however_many_tokens_it_has() {
    let few = NonZeroU32::new(3).unwrap();
    let setup = Setup::start_with(|oauth| HttpConfig::new().with_oauth(oauth).with_requests_per_minute(few)).await;
    let mut statuses = Vec::new();
    for jti in 0..4 {
        let mut claims = setup.claims("read");
        claims["jti"] = jti.into();
        statuses.push(setup.status(&setup.key.sign(&claims)).await);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let mut other = setup.claims("read");
    other["sub"] = "eve".into();
    assert_eq!(setup.status(&setup.key.sign(&other)).await, 200);
}

#[tokio::test]
async fn a_token_that_expires_ends_its_streams() {
    let setup = Setup::start().await;
    let definition = json!({
        "name": "slow", "description": "Hangs.", "probe": { "tool": "hang" },
        "tools": [{ "name": "hang", "description": "Hangs.", "implementation": "return 'hang';" }]
    });
    setup.call(&setup.token("admin"), "import_server", json!({ "definition": definition })).await;
    let mut message = call_message("deploy_mcp_server", &json!({ "serverId": "slow" }));
    message["params"]["_meta"] = json!({ "progressToken": 1 });
    let mut claims = setup.claims("deploy");
    // Clocks may be half a minute apart.
    claims["exp"] = from_now(-18).into();
    let mut stream = setup.guarded.post(&setup.key.sign(&claims), &message).send().await.unwrap();
    assert_eq!((stream.status().as_u16(), header(&stream, "content-type")), (200, "text/event-stream"));
    let first = timeout(LIMIT, stream.chunk()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("deploying revision 1"));
    // The deployment itself would hang for longer.
    timeout(LIMIT, async { while stream.chunk().await.unwrap().is_some() {} }).await.unwrap();
}

#[tokio::test]
async fn who_a_token_is_of_is_written_down_and_the_token_is_not() {
    let log = super::log::Written::default();
    let _guard = log.begin();
    let setup = Setup::start().await;
    let mut claims = setup.claims("admin");
    claims["sub"] = "ada\n\u{202e}evil".into();
    let token = setup.key.sign(&claims);
    let mut said = String::new();
    let calls = [
        ("init_mcp_server", json!({ "name": "made", "description": "A server." })),
        ("init_mcp_server", json!({ "name": "made", "description": "A server." })),
        ("get_mcp_server_details", json!({ "serverId": "made" })),
        ("list_audit_log", json!({})),
    ];
    for (tool, arguments) in calls {
        said += &setup.call(&token, tool, arguments).await.text().await.unwrap();
    }
    let wrong = format!("{token}x");
    let mut expired = claims.clone();
    expired["exp"] = from_now(-600).into();
    let expired = setup.key.sign(&expired);
    for token in [&wrong, &expired] {
        said += &setup.answer(token).await.2;
    }
    setup.authority.set_fault(Fault::Down);
    let unknown = setup.key.sign_as(&claims, |header| header.kid = Some("unknown".to_owned()));
    said += &setup.answer(&unknown).await.2;

    let audit = setup.guarded.meta.audit(10).await.unwrap();
    assert_eq!(audit[0].actor, "oauth:ada\\n\\u{202e}evil");
    let everything = format!("{said}{audit:?}{}{:?}", log.text(), setup.guarded.server);
    assert!(everything.contains("an access token was refused"), "the log is seen");
    for token in [token, wrong, expired, unknown] {
        for part in token.split('.').skip(1) {
            assert!(!everything.contains(part), "a part of a token was written: {part}");
        }
    }
}

#[tokio::test]
async fn an_issuer_guards_a_public_address_and_has_to_be_one() {
    let meta = memory::meta().await;
    let issuer = || OAuthConfig::new("https://login.example.com");
    let everywhere = HttpConfig::new().with_listen("0.0.0.0:0".parse().unwrap());
    let public = issuer().with_resource("https://mcp.example.com/mcp".parse().unwrap());
    serve_http(meta.clone(), everywhere.clone().with_oauth(public)).await.unwrap().close().await;
    for (config, problem) in [
        (everywhere.with_oauth(issuer()), "cannot know the URL"),
        (HttpConfig::new().with_oauth(OAuthConfig::new("http://login.example.com")), "has to be an https URL"),
        (HttpConfig::new().with_oauth(OAuthConfig::new("login")), "is no URL"),
        (
            HttpConfig::new().with_oauth(issuer()).with_authentication(Authentication::None),
            "nobody needs a token or a key",
        ),
    ] {
        let error = serve_http(meta.clone(), config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{problem}");
        assert!(error.to_string().contains(problem), "{problem}: {error}");
    }
}
