//! [`Resource`]: what this server tells clients about where its tokens come from (RFC 9728).

use serde_json::{Value, json};
use url::Url;

use super::OAuthConfig;
use super::token::SCOPE_PREFIX;
use crate::keys::Scope;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Scopes that a client without a token is told to ask for: the loop from making a tool to calling it. Commands in
/// containers and administration are asked for by name.
const FIRST_SCOPES: [Scope; 4] = [Scope::Read, Scope::Call, Scope::Write, Scope::Deploy];

/// The endpoint as a protected resource.
#[derive(Debug)]
pub(in crate::server) struct Resource {
    /// Its URL as clients know it, without a slash at its end.
    pub(super) id: String,
    /// Where its metadata is, as clients know it.
    metadata_url: String,
    metadata_paths: [String; 3],
    issuer: String,
    prefixed_scopes: bool,
}

impl Resource {
    pub(super) fn new(config: &OAuthConfig, endpoint: &Url) -> Self {
        let url = config.resource.as_ref().unwrap_or(endpoint);
        let path = url.path().trim_end_matches('/');
        let origin = url.origin().ascii_serialization();
        Self {
            id: format!("{origin}{path}"),
            metadata_url: format!("{origin}{WELL_KNOWN}{path}"),
            // A proxy may take a part of the path away, or know only the root's.
            metadata_paths: [format!("{WELL_KNOWN}{path}"), format!("{WELL_KNOWN}/mcp"), WELL_KNOWN.to_owned()],
            issuer: config.issuer.clone(),
            prefixed_scopes: config.prefixed_scopes,
        }
    }

    /// The metadata, if it is at this path.
    pub(in crate::server) fn metadata_at(&self, path: &str) -> Option<Value> {
        self.metadata_paths.iter().any(|known| known == path).then(|| {
            json!({
                "resource": self.id,
                "authorization_servers": [self.issuer],
                "scopes_supported": Scope::ALL.iter().map(|scope| self.scope_name(*scope)).collect::<Vec<_>>(),
                "bearer_methods_supported": ["header"],
                "resource_name": "Meta-MCP",
            })
        })
    }

    /// The challenge's part that leads a client to a token: where the metadata is, and which scopes to ask for; without
    /// any, the usual ones.
    pub(in crate::server) fn directions(&self, scopes: &[Scope]) -> String {
        let scopes = if scopes.is_empty() { &FIRST_SCOPES } else { scopes };
        let scopes: Vec<_> = scopes.iter().map(|scope| self.scope_name(*scope)).collect();
        format!("resource_metadata=\"{}\", scope=\"{}\"", self.metadata_url, scopes.join(" "))
    }

    fn scope_name(&self, scope: Scope) -> String {
        format!("{}{scope}", if self.prefixed_scopes { SCOPE_PREFIX } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_where_the_public_url_says_and_where_a_proxy_may_send_it() {
        let endpoint: Url = "http://127.0.0.1:8080/mcp".parse().unwrap();
        let of = |public: Option<&str>| {
            let mut config = OAuthConfig::new("https://login.example.com/");
            config.resource = public.map(|url| url.parse().unwrap());
            let resource = Resource::new(&config, &endpoint);
            (resource.id.clone(), resource.metadata_url.clone())
        };
        let expected = |id: &str, url: &str| (id.to_owned(), url.to_owned());
        let here = "http://127.0.0.1:8080/.well-known/oauth-protected-resource/mcp";
        assert_eq!(of(None), expected("http://127.0.0.1:8080/mcp", here));
        let deep = "https://example.com/.well-known/oauth-protected-resource/tools/mcp";
        assert_eq!(of(Some("https://example.com/tools/mcp")), expected("https://example.com/tools/mcp", deep));
        let root = "https://mcp.example.com/.well-known/oauth-protected-resource";
        assert_eq!(of(Some("https://mcp.example.com/")), expected("https://mcp.example.com", root));
        let config =
            OAuthConfig::new("https://a.example").with_resource("https://example.com/tools/mcp".parse().unwrap());
        let resource = Resource::new(&config, &endpoint);
        for path in ["", "/mcp", "/tools/mcp"] {
            assert!(resource.metadata_at(&format!("{WELL_KNOWN}{path}")).is_some(), "{path}");
        }
        assert_eq!(resource.metadata_at(&format!("{WELL_KNOWN}/other")), None);
    }
}
