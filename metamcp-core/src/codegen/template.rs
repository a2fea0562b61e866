//! The embedded templates, rendered by Handlebars in strict mode.

use std::sync::OnceLock;

use handlebars::{
    Context, Handlebars, Helper, HelperResult, Output, RenderContext, RenderError, RenderErrorReason, TemplateError,
};
use metamcp_templates::Template;
use serde::Serialize;

use super::context::{Body, Imports, Readme};
use crate::name::TemplateKind;
use crate::{Error, ErrorKind, Result};

/// Compiled templates of one kind.
pub(super) struct Renderer {
    handlebars: Handlebars<'static>,
}

/// The kind's templates, compiled by the first who asks: that costs as much as rendering twenty tools.
pub(super) fn renderer(kind: TemplateKind) -> &'static Renderer {
    static RENDERERS: [OnceLock<Renderer>; TemplateKind::ALL.len()] = [const { OnceLock::new() }; _];
    RENDERERS[kind as usize].get_or_init(|| Renderer::new(kind.embedded()).expect("embedded templates compile"))
}

impl Renderer {
    fn new(template: &Template) -> Result<Self, TemplateError> {
        let mut handlebars = Handlebars::new();
        handlebars.set_strict_mode(true);
        // Output is JavaScript and Markdown: HTML escapes would change the text.
        handlebars.register_escape_fn(handlebars::no_escape);
        handlebars.register_helper("json", Box::new(json_literal));
        for (name, text) in
            [("bodies", metamcp_templates::BODIES), ("body", metamcp_templates::BODY), ("readme", template.readme)]
        {
            handlebars.register_template_string(name, text)?;
        }
        Ok(Self { handlebars })
    }

    pub(super) fn bodies(&self, imports: &Imports<'_>) -> Result<String> {
        self.render("bodies", imports)
    }

    pub(super) fn body(&self, body: &Body<'_>) -> Result<String> {
        self.render("body", body)
    }

    pub(super) fn readme(&self, readme: &Readme<'_>) -> Result<String> {
        self.render("readme", readme)
    }

    fn render(&self, name: &'static str, context: &impl Serialize) -> Result<String> {
        let rendered = self.handlebars.render(name, context);
        rendered.map_err(|error| {
            Error::new(ErrorKind::Unexpected, format!("template {name:?} does not render")).with_source(error)
        })
    }
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
