//! Names of tools and secrets, made of names that follow other rules.

use std::collections::BTreeSet;

use crate::source_tree::Digest;

const LONGEST: usize = 64;
/// Hexadecimal digits that tell apart what would have the same name.
const DIGITS: usize = 8;

/// The name of an operation's tool: its `operationId` in the characters that are allowed, else its method and path.
/// One that is too long or taken ends in a digest of `title`, so that it is the same each time.
pub(super) fn of_tool(operation_id: Option<&str>, title: &str, taken: &BTreeSet<String>) -> String {
    let wanted = operation_id.filter(|id| id.chars().any(|c| c.is_ascii_alphanumeric())).unwrap_or(title);
    let name = plain(wanted, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if name.len() <= LONGEST && !taken.contains(&name.to_ascii_lowercase()) {
        return name;
    }
    let start: String = name.chars().take(LONGEST - DIGITS - 1).collect();
    format!("{start}_{}", Digest::of(title.as_bytes()).short(DIGITS))
}

/// The name of a secret: that of its security scheme, as names of variables are written.
pub(super) fn of_secret(scheme: &str) -> String {
    let name = plain(scheme, |c| c.is_ascii_alphanumeric()).to_ascii_uppercase();
    let name = if name.starts_with(|c: char| c.is_ascii_digit()) { format!("KEY_{name}") } else { name };
    name.chars().take(46).collect()
}

/// Another name for a secret, which only the API at `base` has: the secret's, the API's place, and a digest of it.
pub(super) fn of_secret_apart(secret: &str, base: &str) -> String {
    let mark = format!("_{}", Digest::of(base.as_bytes()).short(DIGITS).to_ascii_uppercase());
    if secret.ends_with(&mark) {
        return secret.to_owned();
    }
    let place = base.split_once("://").map_or(base, |(_, place)| place);
    let place = plain(place, |c| c.is_ascii_alphanumeric()).to_ascii_uppercase();
    let start: String = format!("{secret}_{place}").chars().take(LONGEST - mark.len()).collect();
    format!("{}{mark}", start.trim_end_matches('_'))
}

/// The text with `_` for each run of what is not allowed, and none at its ends.
fn plain(text: &str, allowed: impl Fn(char) -> bool) -> String {
    let parts: Vec<_> = text.split(|c| !allowed(c)).filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_allowed_short_and_distinct() {
        let mut taken = BTreeSet::new();
        let mut name = |id: Option<&str>, title: &str| {
            let name = of_tool(id, title, &taken);
            taken.insert(name.to_ascii_lowercase());
            name
        };
        assert_eq!(name(Some("pets/list all"), "GET /pets"), "pets_list_all");
        assert_eq!(
            name(Some("Pets_List_All"), "GET /all"),
            format!("Pets_List_All_{}", Digest::of("GET /all").short(8))
        );
        assert_eq!(name(None, "GET /pets/{petId}"), "GET_pets_petId");
        assert_eq!(name(Some("…"), "PUT /a"), "PUT_a");
        assert_eq!(name(Some(&"x".repeat(80)), "GET /x").len(), 64);
        assert_eq!(of_secret("petstore-auth (v2)"), "PETSTORE_AUTH_V2");
        assert_eq!(of_secret("2legs"), "KEY_2LEGS");
        let apart = of_secret_apart("TOKEN", "https://api.example.com/v1");
        assert_eq!(apart, "TOKEN_API_EXAMPLE_COM_V1_53AEE2CA");
        assert_eq!(of_secret_apart(&apart, "https://api.example.com/v1"), apart);
        let long = format!("{}_PASSWORD", of_secret(&"x".repeat(80)));
        assert_eq!(of_secret_apart(&long, "https://a.example.com").len(), 64);
    }
}
