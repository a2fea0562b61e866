//! Cloudflare's HTTP statuses and error codes as [`ErrorKind`]s: one table for every product.

use metamcp_core::{Error, ErrorKind};
use serde::Deserialize;

/// One entry of an answer's `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    /// Cloudflare's code.
    pub code: u32,
    /// Cloudflare's message.
    pub message: String,
}

/// The error of an answer that did not succeed.
///
/// The code decides before the status: throttling (971) may come with a status other than 429, and many
/// products answer 400 for things that are missing or exist already. `ray` is the answer's `cf-ray` header, which
/// Cloudflare's support asks for.
pub fn error_from_response(status: u16, errors: &[ApiError], ray: Option<&str>) -> Error {
    let kind = errors.iter().find_map(|error| kind_of_code(error.code)).unwrap_or_else(|| kind_of_status(status));
    let message = match errors {
        [] => format!("Cloudflare answered with status {status} and no message"),
        errors => {
            let all: Vec<_> = errors.iter().map(|error| format!("{} (code {})", error.message, error.code)).collect();
            all.join("; ")
        }
    };
    let ray = ray.map(|ray| format!(" [cf-ray {ray}]")).unwrap_or_default();
    let error = Error::new(kind, message + &ray);
    match kind {
        ErrorKind::Unauthenticated => error.with_help("check CLOUDFLARE_API_TOKEN and that it has not expired"),
        ErrorKind::PermissionDenied => error.with_help("give the token the permissions that CloudflareConfig names"),
        _ => error,
    }
}

/// Codes as wrangler and the API's own error lists use them.
fn kind_of_code(code: u32) -> Option<ErrorKind> {
    Some(match code {
        10_000 | 9_103 | 9_106 | 9_109 => ErrorKind::Unauthenticated,
        10_001 => ErrorKind::PermissionDenied,
        971 => ErrorKind::RateLimited,
        // D1 database; KV key and namespace; script, service and dispatch script; versions; dispatch namespace.
        7_404 | 10_009 | 10_013 | 10_007 | 10_090 | 10_092 | 10_222 | 100_119 | 1_609 => ErrorKind::NotFound,
        // D1 name, KV title, subdomain, dispatch namespace, container application.
        7_502 | 10_014 | 10_031 | 10_036 | 100_120 | 1_608 => ErrorKind::AlreadyExists,
        // The script does not start.
        10_021 => ErrorKind::BuildFailed,
        _ => return None,
    })
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Conflict,
        413 => ErrorKind::LimitExceeded,
        429 => ErrorKind::RateLimited,
        500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_error(code: u32) -> ApiError {
        ApiError { code, message: "said so".into() }
    }

    #[test]
    fn the_code_decides_before_the_status() {
        assert_eq!(error_from_response(400, &[api_error(971)], None).kind(), ErrorKind::RateLimited);
        assert_eq!(error_from_response(400, &[api_error(100_120)], None).kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn without_a_known_code_the_status_decides() {
        assert_eq!(error_from_response(503, &[], None).kind(), ErrorKind::Unavailable);
        assert_eq!(error_from_response(418, &[api_error(1)], None).kind(), ErrorKind::Unexpected);
    }

    #[test]
    fn support_needs_the_ray() {
        let error = error_from_response(500, &[api_error(1)], Some("8f00ba4"));
        assert!(error.to_string().contains("cf-ray 8f00ba4"), "{error}");
    }
}
