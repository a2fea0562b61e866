//! What a definition that comes in through the MCP server may reach: private networks only where the operator allows
//! it, and what the account has beside servers only for callers who may use all of them.

use super::call::Call;
use crate::definition::{Binding, BindingKind, ServerDefinition};
use crate::name::{ServerKey, ServerName};
use crate::registry::ServerRecord;
use crate::validate::egress_rule;
use crate::{Error, ErrorKind, Result};

impl Call {
    /// Changes a server's definition, which may not come to reach further than its writer may let it.
    pub(super) async fn edit<E>(
        &self,
        key: &ServerKey,
        edit: impl Fn(ServerDefinition) -> E + Send + Sync,
    ) -> Result<ServerRecord>
    where
        E: Future<Output = Result<ServerDefinition>> + Send,
    {
        let (servers, edit) = (self.meta.servers(), &edit);
        let edited = servers.edit_by(key, move |definition| async move {
            let edited = edit(definition.clone());
            let edited = edited.await?;
            self.check_reach(Some(&definition), &edited)?;
            Ok(edited)
        });
        edited.await
    }

    /// Refuses a definition that reaches further than its writer may let it, with everything that does. `before` is
    /// what it was; bindings that it had were given to it by somebody who might.
    ///
    /// Private addresses are refused though they stood there before: whoever changes a body uses them.
    pub(super) fn check_reach(&self, before: Option<&ServerDefinition>, after: &ServerDefinition) -> Result<()> {
        let private = self.private_egress(after);
        let foreign = self.foreign_bindings(before, after);
        let mut helps = Vec::new();
        if !private.is_empty() {
            helps.push(
                "name public hosts in `egress`, or have the operator allow the private addresses (--allow-private)",
            );
        }
        if !foreign.is_empty() {
            helps.push("have a key without server patterns bind what is no server of this one's");
        }
        if helps.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} may not let server {:?} reach {}",
            self.access.actor(),
            after.name,
            [private, foreign].concat().join(", ")
        );
        Err(Error::new(ErrorKind::PermissionDenied, message).with_help(helps.join("; ")))
    }

    fn private_egress(&self, definition: &ServerDefinition) -> Vec<String> {
        let allowed = self.meta.private_egress();
        let rules = definition.egress.iter().flatten();
        // What is no rule is the validation's to refuse.
        let private = rules.filter(|text| egress_rule(text).is_ok_and(|rule| !allowed.allows(&rule)));
        private.map(|text| format!("{text} (private)")).collect()
    }

    fn foreign_bindings(&self, before: Option<&ServerDefinition>, after: &ServerDefinition) -> Vec<String> {
        if !self.access.is_limited() {
            return Vec::new();
        }
        let bindings = after.bindings.iter().filter(|(name, binding)| {
            let had = before.and_then(|before| before.bindings.get(*name)) == Some(binding);
            !had && !self.may_bind(name, binding)
        });
        bindings.map(|(name, binding)| format!("{:?} by binding {name:?}", target(name, binding))).collect()
    }

    fn may_bind(&self, name: &str, binding: &Binding) -> bool {
        match binding.kind {
            BindingKind::Ai | BindingKind::Images | BindingKind::Browser => true,
            BindingKind::Service => {
                target(name, binding).parse::<ServerName>().is_ok_and(|server| self.access.may_use(&server))
            }
            BindingKind::Kv | BindingKind::D1 | BindingKind::R2 | BindingKind::Queue | BindingKind::Vectorize => false,
        }
    }
}

fn target<'a>(name: &'a str, binding: &'a Binding) -> &'a str {
    binding.target.as_deref().unwrap_or(name)
}
