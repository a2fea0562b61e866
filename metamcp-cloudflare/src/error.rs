//! Cloudflare's HTTP statuses and error codes as [`ErrorKind`]s: one table for every product.

use metamcp_core::{Error, ErrorKind};
use serde::Deserialize;

/// What to do about a version that would leave Durable Objects without their class.
pub(crate) const KEEP_CLASSES: &str =
    "keep what brings the class (the template, or `sessions`), or remove the server, whose state goes with it";

/// What to do in an account without a name below `workers.dev`.
pub(crate) const CHOOSE_SUBDOMAIN: &str = "choose a workers.dev subdomain in the dashboard: \
     https://developers.cloudflare.com/workers/configuration/routing/workers-dev/";
const NO_SUBDOMAIN: u32 = 10_063;

/// What a binding is to lead to, a KV namespace, D1 database or Worker, is not in the account.
const NO_TARGET: [u32; 3] = [10_041, 10_181, 10_144];
const MEND_BINDING: &str = "make what the server's binding names in this account, or change the binding's `target`";

/// The upload, compressed: <https://developers.cloudflare.com/workers/platform/limits/#worker-size>
const TOO_LARGE: u32 = 10_027;
const MAKE_SMALLER: &str =
    "a Worker may have 10 MB compressed, 3 MB on the free plan: use fewer or smaller npm packages";

/// Trouble of D1's that passes, in its own words: it comes under the code of whatever SQLite says.
/// <https://developers.cloudflare.com/d1/observability/debug-d1/#error-list>
const PASSING: [&str; 6] = [
    "Network connection lost",
    "storage caused object to be reset",
    "reset because its code was updated",
    "D1 DB is overloaded",
    "database is locked",
    "SQLITE_BUSY",
];

const CHECK_TOKEN: &str = "check CLOUDFLARE_API_TOKEN and that it has not expired";
/// What a token needs, as the dashboard names it.
const PERMISSIONS: &str = "the permissions Workers Scripts Edit, Workers KV Storage Edit, D1 Edit and Account Settings \
     Read; for logs Workers Tail Read; for a Container Manager Containers Edit";

/// One entry of an answer's `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ApiError {
    /// Cloudflare's code.
    pub(crate) code: u32,
    /// Cloudflare's message.
    pub(crate) message: String,
}

/// The error of an answer that did not succeed.
///
/// The code decides before the status: throttling (971) may come with a status other than 429, and many
/// products answer 400 for things that are missing or exist already. `ray` is the answer's `cf-ray` header, which
/// Cloudflare's support asks for.
pub(crate) fn error_from_response(status: u16, errors: &[ApiError], ray: Option<&str>) -> Error {
    let kind = errors.iter().find_map(kind_of).unwrap_or_else(|| kind_of_status(status));
    let message = match errors {
        [] => format!("Cloudflare answered with status {status} and no message"),
        errors => {
            let all: Vec<_> = errors.iter().map(|error| format!("{} (code {})", error.message, error.code)).collect();
            all.join("; ")
        }
    };
    let ray = ray.map(|ray| format!(" [cf-ray {ray}]")).unwrap_or_default();
    let error = Error::new(kind, message + &ray);
    let has = |codes: &[u32]| errors.iter().any(|error| codes.contains(&error.code));
    match kind {
        // What a wrong token gets as well as one that lacks a permission:
        // https://github.com/cloudflare/workers-sdk/issues/4078
        ErrorKind::Unauthenticated if has(&[10_000, 9_109]) => error.with_help(format!(
            "check CLOUDFLARE_API_TOKEN, that it has not expired, and that it is for the account \
                 CLOUDFLARE_ACCOUNT_ID with {PERMISSIONS}"
        )),
        ErrorKind::Unauthenticated => error.with_help(CHECK_TOKEN),
        ErrorKind::PermissionDenied if has(&[10_001]) || errors.iter().all(|error| error.code == 0) => {
            error.with_help(format!("give the token {PERMISSIONS}"))
        }
        // What the account's plan does not have, for example: Cloudflare says what to do.
        ErrorKind::PermissionDenied => error,
        ErrorKind::Unsupported => error.with_help(KEEP_CLASSES),
        ErrorKind::ConfigInvalid if has(&NO_TARGET) => error.with_help(MEND_BINDING),
        ErrorKind::LimitExceeded if has(&[TOO_LARGE]) => error.with_help(MAKE_SMALLER),
        _ if has(&[NO_SUBDOMAIN]) => error.with_help(CHOOSE_SUBDOMAIN),
        _ => error,
    }
}

/// Codes as wrangler and the API's own error lists use them.
fn kind_of(error: &ApiError) -> Option<ErrorKind> {
    Some(match error.code {
        // The token's method is not allowed, or, under the same code, the API is in trouble.
        10_001 if error.message.to_lowercase().contains("internal error") => ErrorKind::Unavailable,
        10_000 | 9_103 | 9_106 | 9_109 => ErrorKind::Unauthenticated,
        10_001 => ErrorKind::PermissionDenied,
        971 => ErrorKind::RateLimited,
        // D1 database; KV key and namespace; script, service and dispatch script; versions and deployments; dispatch
        // namespace; container application; the account's name below `workers.dev`.
        7_404 | 10_009 | 10_013 | 10_007 | 10_090 | 10_092 | 10_071 | 100_146 | 10_222 | 10_336 | 100_119 | 1_609
        | NO_SUBDOMAIN => ErrorKind::NotFound,
        // D1 name, KV title, subdomain, dispatch namespace, container application.
        7_502 | 10_014 | 10_031 | 10_036 | 100_120 | 1_608 => ErrorKind::AlreadyExists,
        // Container application: its Durable Object class is no container. Version: secrets were changed, or Durable
        // Object classes added, since it was uploaded.
        1_607 | 10_220 | 10_074 => ErrorKind::Conflict,
        // The upload lacks a class whose objects are there; the message names it.
        10_064 => ErrorKind::Unsupported,
        // The script does not start, or is none.
        10_021 | 10_068 => ErrorKind::BuildFailed,
        TOO_LARGE => ErrorKind::LimitExceeded,
        code if NO_TARGET.contains(&code) => ErrorKind::ConfigInvalid,
        7_500 if PASSING.iter().any(|text| error.message.contains(text)) => ErrorKind::Unavailable,
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
    fn what_durable_objects_forbid_is_told_by_the_code_whatever_the_status() {
        for status in [400, 403, 409] {
            let kind = |code| error_from_response(status, &[api_error(code)], None).kind();
            assert_eq!([kind(10_220), kind(10_074)], [ErrorKind::Conflict; 2]);
            assert_eq!(kind(10_064), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn an_internal_error_is_no_missing_permission() {
        let error = |message: &str| ApiError { code: 10_001, message: message.into() };
        let kind = |message| error_from_response(400, &[error(message)], None).kind();
        assert_eq!(kind("Internal error. Please try again"), ErrorKind::Unavailable);
        assert_eq!(kind("method not allowed for this authentication scheme"), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_missing_permission_is_told_though_it_looks_like_a_wrong_token() {
        let error = |status, code: u32, message: &str| {
            error_from_response(status, &[ApiError { code, message: message.into() }], None)
        };
        for (status, code) in [(403, 10_000), (401, 10_000), (403, 9_109)] {
            let refused = error(status, code, "Authentication error");
            let help = refused.help().unwrap();
            for part in ["CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID", "D1 Edit"] {
                assert!(help.contains(part), "{help}");
            }
        }
        assert!(error_from_response(403, &[], None).help().unwrap().contains("Workers Scripts Edit"));
        let plan = error(403, 10_121, "You do not have access to dispatch namespaces. You can purchase it");
        assert_eq!((plan.kind(), plan.help()), (ErrorKind::PermissionDenied, None));
    }

    #[test]
    fn what_the_definition_has_to_do_with_is_told_with_what_to_change() {
        for (code, kind, help) in [
            (10_027, ErrorKind::LimitExceeded, MAKE_SMALLER),
            (10_041, ErrorKind::ConfigInvalid, MEND_BINDING),
            (10_181, ErrorKind::ConfigInvalid, MEND_BINDING),
            (10_144, ErrorKind::ConfigInvalid, MEND_BINDING),
        ] {
            let error = error_from_response(400, &[api_error(code)], None);
            assert_eq!((error.kind(), error.help()), (kind, Some(help)), "{code}");
        }
    }

    #[test]
    fn an_account_without_a_subdomain_is_told_so_wherever_it_shows() {
        let error = error_from_response(403, &[api_error(NO_SUBDOMAIN)], None);
        assert_eq!((error.kind(), error.help()), (ErrorKind::NotFound, Some(CHOOSE_SUBDOMAIN)));
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
