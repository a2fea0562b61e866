//! The embedded templates, rendered by Handlebars in strict mode.

use handlebars::{Context, Handlebars, Helper, HelperResult, Output, RenderContext, RenderError, RenderErrorReason};
use metamcp_templates::Template;
use serde::Serialize;
use serde_json::json;

use super::context::{Body, FIRST_BODY_LINE, Readme};
use crate::name::TemplateKind;
use crate::{Error, ErrorKind, Result};

/// The template's files.
pub(super) fn find(kind: TemplateKind) -> &'static Template {
    match kind {
        TemplateKind::RemoteMcpAuthless => &metamcp_templates::REMOTE_MCP_AUTHLESS,
    }
}

/// Compiled templates of one kind.
pub(super) struct Renderer {
    handlebars: Handlebars<'static>,
}

impl Renderer {
    pub(super) fn new(template: &'static Template) -> Result<Self> {
        let mut handlebars = Handlebars::new();
        handlebars.set_strict_mode(true);
        // Output is JavaScript and Markdown: HTML escapes would change the text.
        handlebars.register_escape_fn(handlebars::no_escape);
        handlebars.register_helper("json", Box::new(json_literal));
        for (name, text) in [("bodies", template.bodies), ("body", template.body), ("readme", template.readme)] {
            handlebars.register_template_string(name, text).map_err(|error| unexpected(name, error))?;
        }
        Ok(Self { handlebars })
    }

    pub(super) fn bodies(&self, bodies: &[Body<'_>]) -> Result<String> {
        self.render("bodies", &json!({ "bodies": bodies, "first_body_line": FIRST_BODY_LINE }))
    }

    pub(super) fn body(&self, body: &Body<'_>) -> Result<String> {
        self.render("body", body)
    }

    pub(super) fn readme(&self, readme: &Readme<'_>) -> Result<String> {
        self.render("readme", readme)
    }

    fn render(&self, name: &'static str, context: &impl Serialize) -> Result<String> {
        self.handlebars.render(name, context).map_err(|error| unexpected(name, error))
    }
}

fn unexpected(name: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unexpected, format!("template {name:?} does not render")).with_source(source)
}

/// `{{json x}}`: the value as a JSON literal that is also a JavaScript literal, safe in a module and in HTML.
fn json_literal(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: &mut dyn Output,
) -> HelperResult {
    let value = helper.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("json", 0))?.value();
    let text = serde_json::to_string(value).map_err(|error| RenderError::from(RenderErrorReason::from(error)))?;
    out.write(&text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").replace("</", "<\\/"))?;
    Ok(())
}
