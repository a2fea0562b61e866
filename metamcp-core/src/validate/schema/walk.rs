//! One pass over a JSON Schema: every keyword's shape, and an outline of where schemas and references stand.

use std::collections::{BTreeMap, BTreeSet};

use oxc_allocator::Allocator;
use oxc_regular_expression::{LiteralParser, Options};
use serde_json::{Map, Value};
use url::Url;

use super::super::problems::{Path, Problems, did_you_mean, quote};
use super::super::text;
use super::keywords::{self, FORMATS, KEYWORDS, Shape, TYPES};
use super::{pattern, pattern_size};
use crate::number;

/// Longest regular expression.
const PATTERN_BYTES: usize = 1000;

/// Where the schemas of a document stand, by JSON pointer from its root.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Every place at which a schema stands, and the URI of the resource that it belongs to.
    pub(super) schemas: BTreeMap<String, Url>,
    /// The resources: what `$id` begins, and the document itself.
    pub(super) resources: BTreeMap<Url, String>,
    /// The schemas that anchors name, by resource and name.
    pub(super) anchors: BTreeMap<(Url, String), Anchor>,
    /// References from one schema to another.
    pub(super) references: Vec<Reference>,
    /// From a schema to one that applies to the same value.
    pub(super) in_place: Vec<(String, String)>,
}

/// What an anchor names.
#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) schema: String,
    /// Whether a `$dynamicRef` may find it from elsewhere.
    pub(super) dynamic: bool,
}

/// A `$ref` or `$dynamicRef`.
#[derive(Debug)]
pub(super) struct Reference {
    /// The schema that has it.
    pub(super) from: String,
    pub(super) keyword: &'static str,
    pub(super) text: String,
}

/// The URI of a document without `$id`: only ever compared.
const NAMELESS: &str = "https://schema.invalid/";

/// Checks the schema at `path` and outlines it.
pub(super) fn walk(path: &Path, schema: &Value, problems: &mut Problems) -> Outline {
    let resource = Url::parse(NAMELESS).expect("it is a URL");
    let outline = Outline { resources: [(resource.clone(), String::new())].into(), ..Outline::default() };
    let mut walker = Walker { base: path.as_str().len(), resource, outline, problems };
    walker.schema(path, schema);
    walker.outline
}

/// Whether this is a regular expression as JavaScript's `u` mode wants it.
pub(super) fn is_pattern(text: &str) -> bool {
    LiteralParser::new(&Allocator::default(), text, Some("u"), Options::default()).parse().is_ok()
}

struct Walker<'a> {
    /// Length of the pointer to the document's root.
    base: usize,
    /// The URI of the resource at hand.
    resource: Url,
    outline: Outline,
    problems: &'a mut Problems,
}

impl Walker<'_> {
    fn local(&self, path: &Path) -> String {
        path.as_str()[self.base..].to_owned()
    }

    fn schema(&mut self, path: &Path, schema: &Value) {
        let around = self.resource.clone();
        // First, since it decides what the others refer to.
        if let Some(id) = schema.get("$id") {
            self.identifier(path, id);
        }
        let local = self.local(path);
        self.outline.schemas.insert(local, self.resource.clone());
        match schema {
            Value::Bool(_) => {}
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    self.keyword(path, keyword, value);
                }
                self.missing_properties(path, keywords);
            }
            _ => self.problems.add(path, "is no schema; write an object such as {\"type\": \"string\"}, or a boolean"),
        }
        self.resource = around;
    }

    fn in_place(&mut self, from: &Path, path: &Path, schema: &Value) {
        let edge = (self.local(from), self.local(path));
        self.outline.in_place.push(edge);
        self.schema(path, schema);
    }

    fn keyword(&mut self, schema: &Path, keyword: &str, value: &Value) {
        let path = schema.key(keyword);
        let Some(shape) = keywords::shape(keyword) else { return self.unknown(&path, keyword) };
        match (shape, value) {
            (Shape::InPlace, _) => self.in_place(schema, &path, value),
            (Shape::Within, Value::Array(_)) if keyword == "items" => {
                self.problems.add(&path, "is a list; since draft 2020-12 that is `prefixItems`");
            }
            (Shape::Within, _) => self.schema(&path, value),
            (Shape::InPlaceMap, Value::Object(map)) => {
                map.iter().for_each(|(name, value)| self.in_place(schema, &path.key(name), value));
            }
            (Shape::WithinMap, Value::Object(map)) => map.iter().for_each(|(name, value)| {
                self.property_name(&path.key(name), name);
                self.schema(&path.key(name), value);
            }),
            (Shape::PatternMap, Value::Object(map)) => map.iter().for_each(|(pattern, value)| {
                self.pattern(&path.key(pattern), pattern);
                self.schema(&path.key(pattern), value);
            }),
            (Shape::Definitions, Value::Object(map)) => {
                map.iter().for_each(|(name, value)| self.schema(&path.key(name), value));
            }
            (Shape::InPlaceList, Value::Array(list)) if !list.is_empty() => {
                list.iter().enumerate().for_each(|(index, value)| self.in_place(schema, &path.index(index), value));
            }
            (Shape::WithinList, Value::Array(list)) if !list.is_empty() => {
                list.iter().enumerate().for_each(|(index, value)| self.schema(&path.index(index), value));
            }
            (Shape::Reference, Value::String(text)) => self.reference(schema, "$ref", text),
            (Shape::DynamicReference, Value::String(text)) => self.reference(schema, "$dynamicRef", text),
            (Shape::Anchor, Value::String(name)) => self.anchor(schema, &path, name, false),
            (Shape::DynamicAnchor, Value::String(name)) => self.anchor(schema, &path, name, true),
            (Shape::Identifier, Value::String(_)) => {}
            (Shape::NamesByName, Value::Object(map)) => {
                map.iter().for_each(|(name, names)| self.dependent_names(&path.key(name), names));
            }
            _ => self.plain(&path, keyword, shape, value),
        }
    }

    /// Keywords whose value is no schema.
    fn plain(&mut self, path: &Path, keyword: &str, shape: Shape, value: &Value) {
        match (shape, value) {
            (Shape::Type, _) => self.types(path, value),
            (Shape::Enum, Value::Array(list)) if !list.is_empty() => {
                self.distinct(path, list);
                self.numbers(path, value);
            }
            (Shape::Names, Value::Bool(_)) => self.problems.add(
                path,
                "is a boolean, as in the shorthand; in a JSON Schema the object that has the property lists its name",
            ),
            (Shape::Names, Value::Array(list)) if list.iter().all(Value::is_string) => self.distinct(path, list),
            (Shape::Dialect, Value::String(uri)) => self.dialect(path, uri),
            (Shape::Pattern, Value::String(pattern)) => self.pattern(path, pattern),
            (Shape::Format, Value::String(format)) => self.format(path, format),
            (Shape::Text, Value::String(text)) => text::description(path, text, self.problems),
            (Shape::Number, Value::Number(_)) | (Shape::Anything, _) => self.numbers(path, value),
            (Shape::PositiveNumber, Value::Number(number)) if number.as_f64().is_some_and(|n| n > 0.0) => {
                self.numbers(path, value);
            }
            (Shape::Flag, Value::Bool(_)) | (Shape::List, Value::Array(_)) => {}
            (Shape::Count, Value::Number(number)) if is_count(number) => {}
            _ => self.problems.add(path, format!("`{keyword}` must be {}", expected(shape))),
        }
    }

    /// A number that JavaScript would read as another.
    fn numbers(&mut self, path: &Path, value: &Value) {
        match value {
            Value::Number(number) => {
                if let Some(read) = number::rounded(number) {
                    let message = format!("JavaScript, which has doubles only, would read {number} as {read}");
                    self.problems.add(path, format!("{message}; write that, or a number up to 2^53"));
                }
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(index, value)| self.numbers(&path.index(index), value));
            }
            Value::Object(map) => map.iter().for_each(|(name, value)| self.numbers(&path.key(name), value)),
            _ => {}
        }
    }

    fn unknown(&mut self, path: &Path, keyword: &str) {
        let message = if let Some(reason) = keywords::refusal(keyword) {
            format!("`{keyword}` {reason}")
        } else if keyword.starts_with("x-") {
            return;
        } else {
            let near = did_you_mean(keyword, KEYWORDS.iter().map(|(name, _)| *name));
            format!("{} is no keyword of JSON Schema 2020-12{near}", quote(keyword))
        };
        self.problems.add(path, message);
    }

    fn types(&mut self, path: &Path, value: &Value) {
        match value {
            Value::String(name) => self.type_name(path, name),
            Value::Array(names) if !names.is_empty() && names.iter().all(Value::is_string) => {
                self.distinct(path, names);
                for (index, name) in names.iter().enumerate() {
                    self.type_name(&path.index(index), name.as_str().unwrap_or_default());
                }
            }
            _ => self.problems.add(path, format!("`type` must be one of {} or a list of them", TYPES.join(", "))),
        }
    }

    fn type_name(&mut self, path: &Path, name: &str) {
        if !TYPES.contains(&name) {
            let near = keywords::type_meant(name).map_or_else(
                || did_you_mean(name, TYPES.iter().copied()),
                |meant| format!("; did you mean {meant:?}?"),
            );
            self.problems.add(path, format!("{} is no type; types are {}{near}", quote(name), TYPES.join(", ")));
        }
    }

    fn property_name(&mut self, path: &Path, name: &str) {
        if keywords::is_on_every_object(name) {
            self.problems.add(path, "is a property that every JavaScript object has; choose another name");
        }
        text::line(path, name, self.problems);
    }

    /// A property that is required but not described is nearly always a typing mistake.
    fn missing_properties(&mut self, path: &Path, keywords: &Map<String, Value>) {
        let Some(properties) = keywords.get("properties").and_then(Value::as_object) else { return };
        let required = keywords.get("required").and_then(Value::as_array).into_iter().flatten().enumerate();
        for (index, name) in required.filter_map(|(index, name)| Some((index, name.as_str()?))) {
            if keywords::is_on_every_object(name) {
                self.property_name(&path.key("required").index(index), name);
            } else if !properties.contains_key(name) && keywords.get("additionalProperties") == Some(&false.into()) {
                let near = did_you_mean(name, properties.keys().map(String::as_str));
                let message = format!("{} is required, yet no property of that name is allowed{near}", quote(name));
                self.problems.add(&path.key("required").index(index), message);
            }
        }
    }

    fn dependent_names(&mut self, path: &Path, names: &Value) {
        match names {
            Value::Array(list) if list.iter().all(Value::is_string) => self.distinct(path, list),
            _ => self.problems.add(path, "must be a list of property names"),
        }
    }

    fn reference(&mut self, schema: &Path, keyword: &'static str, text: &str) {
        let reference = Reference { from: self.local(schema), keyword, text: text.to_owned() };
        self.outline.references.push(reference);
    }

    fn anchor(&mut self, schema: &Path, path: &Path, name: &str, dynamic: bool) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(allowed) {
            return self.problems.add(path, "must be a letter or `_`, then letters, digits, `_`, `-` or `.`");
        }
        let anchor = Anchor { schema: self.local(schema), dynamic };
        if self.outline.anchors.insert((self.resource.clone(), name.to_owned()), anchor).is_some() {
            self.problems.add(path, format!("{name:?} names a second schema; anchors must differ"));
        }
    }

    /// Begins a resource. What is no text is reported with the other keywords.
    fn identifier(&mut self, schema: &Path, id: &Value) {
        let Some(id) = id.as_str() else { return };
        let path = schema.key("$id");
        let local = self.local(schema);
        // The document's own has nothing to be relative to.
        let absolute = if local.is_empty() { Url::parse(id).ok() } else { self.resource.join(id).ok() };
        match absolute {
            Some(absolute) if !id.contains('#') && !id.is_empty() => {
                self.resource = absolute.clone();
                if self.outline.resources.insert(absolute, local).is_some() {
                    self.problems.add(&path, format!("{} is the `$id` of a second schema", quote(id)));
                }
            }
            _ if local.is_empty() => {
                self.problems.add(&path, "`$id` must be an absolute URI without a fragment; it may be left out");
            }
            _ => self.problems.add(&path, "`$id` must be a URI without a fragment; it may be left out"),
        }
    }

    fn dialect(&mut self, path: &Path, uri: &str) {
        if uri.trim_end_matches('#') != "https://json-schema.org/draft/2020-12/schema" {
            let message =
                "only draft 2020-12 is supported: \"https://json-schema.org/draft/2020-12/schema\"; it may be left out";
            self.problems.add(path, format!("{} is another dialect; {message}", quote(uri)));
        }
    }

    fn pattern(&mut self, path: &Path, pattern: &str) {
        if pattern.len() > PATTERN_BYTES {
            return self.problems.add(path, format!("is longer than {PATTERN_BYTES} bytes"));
        }
        let allocator = Allocator::default();
        let parsed = match LiteralParser::new(&allocator, pattern, Some("u"), Options::default()).parse() {
            Ok(parsed) => parsed,
            Err(error) => {
                let message = format!("{} is no regular expression as JavaScript's `u` mode wants it", quote(pattern));
                return self.problems.add(path, format!("{message}: {}", error.message));
            }
        };
        let translated = pattern::to_rust(pattern).map_err(ToOwned::to_owned);
        if let Err(reason) = translated.and_then(|_| pattern_size::check(&parsed)) {
            self.problems.add(path, format!("{} {reason}", quote(pattern)));
        }
    }

    fn format(&mut self, path: &Path, format: &str) {
        if !FORMATS.contains(&format) {
            let near = did_you_mean(format, FORMATS.iter().copied());
            let known = FORMATS.join(", ");
            let message = format!("{} is a format that the runtime would not check{near}", quote(format));
            self.problems
                .add(path, format!("{message} (checked are {known}); use `pattern` or say it in `description`"));
        }
    }

    fn distinct(&mut self, path: &Path, list: &[Value]) {
        let mut seen = BTreeSet::new();
        for (index, value) in list.iter().enumerate() {
            if !seen.insert(value.to_string()) {
                self.problems.add(&path.index(index), "stands here a second time; remove it");
            }
        }
    }
}

/// A whole number, also where it is written `3.0`.
fn is_count(number: &serde_json::Number) -> bool {
    number.as_u64().is_some() || number.as_f64().is_some_and(|n| n >= 0.0 && n.fract() == 0.0)
}

/// What a value of this shape looks like.
fn expected(shape: Shape) -> &'static str {
    match shape {
        Shape::InPlaceMap | Shape::WithinMap | Shape::Definitions => "an object of schemas by name",
        Shape::PatternMap => "an object of schemas by regular expression",
        Shape::InPlaceList | Shape::WithinList => "a list of at least one schema",
        Shape::Enum => "a list of at least one value",
        Shape::Names => "a list of property names",
        Shape::NamesByName => "an object of lists of property names",
        Shape::Number => "a number",
        Shape::PositiveNumber => "a number greater than 0",
        Shape::Count => "a whole number, 0 or more",
        Shape::Flag => "true or false",
        Shape::List => "a list",
        Shape::InPlace | Shape::Within => "a schema",
        Shape::Type | Shape::Anything => "another value",
        Shape::Reference
        | Shape::DynamicReference
        | Shape::Anchor
        | Shape::DynamicAnchor
        | Shape::Dialect
        | Shape::Identifier
        | Shape::Pattern
        | Shape::Format
        | Shape::Text => "a text",
    }
}
