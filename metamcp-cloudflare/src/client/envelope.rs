//! What Cloudflare's answers are wrapped in.

use metamcp_core::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::{ApiError, error_from_response};

/// How much of an answer that is no JSON is shown.
const SHOWN_CHARACTERS: usize = 200;

/// What a successful answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON with `success` and `result`.
    Envelope,
    /// A value as it is.
    Bytes,
}

/// What a successful answer holds.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) result: T,
    /// Where the next page begins, for lists that are paged by cursor or page token.
    pub(crate) cursor: Option<String>,
}

/// Whether a call succeeded. What it gave is not looked at: it may be large.
#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    success: bool,
    #[serde(default, deserialize_with = "null_is_empty")]
    errors: Vec<ApiError>,
}

/// What a successful call gave.
#[derive(Deserialize)]
struct Success<T> {
    result: T,
    #[serde(default)]
    result_info: Option<ResultInfo>,
}

#[derive(Deserialize)]
struct ResultInfo {
    #[serde(default, alias = "next_page_token")]
    cursor: Option<String>,
}

/// A few gateways answer without `errors`.
#[derive(Deserialize)]
struct BareError {
    error: String,
    #[serde(default)]
    code: u32,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ApiError>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Takes the result out of a successful answer.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Answer<T>> {
    let Success { result, result_info } = serde_json::from_slice(bytes).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "Cloudflare's answer does not have the form it is documented with")
            .with_source(error)
    })?;
    let cursor = result_info.and_then(|info| info.cursor).filter(|cursor| !cursor.is_empty());
    Ok(Answer { result, cursor })
}

/// The error of an answer, `None` if it succeeded. In an envelope status and `success` decide together, since
/// throttling may come with another status than 429; a value of KV may look like anything.
pub(super) fn failure(status: StatusCode, bytes: &[u8], form: Form, ray: Option<&str>) -> Option<Error> {
    if status.is_success() && form == Form::Bytes {
        return None;
    }
    let verdict = serde_json::from_slice::<Verdict>(bytes).ok();
    if status.is_success() && verdict.as_ref().is_none_or(|verdict| verdict.success) {
        return None;
    }
    let mut errors = errors_of(verdict, bytes);
    if errors.is_empty() && !bytes.is_empty() {
        let text: String = String::from_utf8_lossy(bytes).chars().take(SHOWN_CHARACTERS).collect();
        errors.push(ApiError { code: 0, message: format!("status {status}: {}", text.escape_debug()) });
    }
    Some(error_from_response(status.as_u16(), &errors, ray))
}

fn errors_of(verdict: Option<Verdict>, bytes: &[u8]) -> Vec<ApiError> {
    if let Some(verdict) = verdict
        && !verdict.success
        && !verdict.errors.is_empty()
    {
        return verdict.errors;
    }
    let bare = serde_json::from_slice::<BareError>(bytes).ok();
    bare.map(|bare| ApiError { code: bare.code, message: bare.error }).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: u16, body: &str) -> Option<(ErrorKind, String)> {
        let status = StatusCode::from_u16(status).unwrap();
        failure(status, body.as_bytes(), Form::Envelope, None).map(|error| (error.kind(), error.to_string()))
    }

    #[test]
    fn a_refusal_is_known_whatever_its_status() {
        let (kind, text) = failed(200, r#"{"success":false,"errors":[{"code":971,"message":"slow down"}]}"#).unwrap();
        assert_eq!(kind, ErrorKind::RateLimited);
        assert!(text.contains("slow down (code 971)"), "{text}");
        assert_eq!(failed(404, r#"{"error":"no such thing","code":10007}"#).unwrap().0, ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_envelope_is_shown_in_part() {
        let (kind, text) = failed(503, &format!("<html>\u{1b}{}", "x".repeat(10_000))).unwrap();
        assert_eq!(kind, ErrorKind::Unavailable);
        assert!(text.len() < 400 && text.contains("<html>") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_value_that_looks_like_json_is_a_value() {
        for value in [r#"{"success":false,"errors":[]}"#, "{", "null", ""] {
            assert!(failure(StatusCode::OK, value.as_bytes(), Form::Bytes, None).is_none(), "{value}");
        }
    }

    #[test]
    fn a_cursor_ends_when_it_is_empty() {
        let page = |cursor: &str| {
            let text = format!(r#"{{"success":true,"errors":[],"result":[1],"result_info":{{"cursor":{cursor}}}}}"#);
            read::<Vec<u8>>(text.as_bytes()).unwrap().cursor
        };
        assert_eq!((page("\"x\""), page("\"\""), page("null")), (Some("x".to_owned()), None, None));
    }
}
