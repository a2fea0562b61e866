//! One pass over a JSON Schema: every keyword's shape, and an outline of where schemas and references stand.

use std::collections::{BTreeMap, BTreeSet};

use oxc_allocator::Allocator;
use oxc_regular_expression::{LiteralParser, Options};
use serde_json::{Map, Value};

use super::super::problems::{Path, Problems, did_you_mean, quote};
use super::super::text;
use super::keywords::{self, FORMATS, KEYWORDS, Shape, TYPES};

/// Longest regular expression.
const PATTERN_BYTES: usize = 1000;

/// Where the schemas of a document stand, by JSON pointer from its root.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Every place at which the runtime's validator sees a schema.
    pub(super) schemas: BTreeSet<String>,
    /// Anchors and the schemas they name.
    pub(super) anchors: BTreeMap<String, String>,
    /// References: the schema that has one, and its text.
    pub(super) references: Vec<(String, String)>,
    /// From a schema to one that applies to the same value.
    pub(super) in_place: Vec<(String, String)>,
}

/// Checks the schema at `path` and outlines it.
pub(super) fn walk(path: &Path, schema: &Value, problems: &mut Problems) -> Outline {
    let mut walker = Walker { base: path.as_str().len(), outline: Outline::default(), problems };
    walker.schema(path, schema);
    walker.outline
}

struct Walker<'a> {
    /// Length of the pointer to the document's root.
    base: usize,
    outline: Outline,
    problems: &'a mut Problems,
}

impl Walker<'_> {
    fn local(&self, path: &Path) -> String {
        path.as_str()[self.base..].to_owned()
    }

    fn schema(&mut self, path: &Path, schema: &Value) {
        let local = self.local(path);
        self.outline.schemas.insert(local);
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
    }

    fn in_place(&mut self, from: &Path, path: &Path, schema: &Value) {
        let edge = (self.local(from), self.local(path));
        self.outline.in_place.push(edge);
        self.schema(path, schema);
    }

    fn keyword(&mut self, schema: &Path, keyword: &str, value: &Value) {
        let path = schema.key(keyword);
        let Some(shape) = keywords::shape(keyword) else { return self.unknown(&path, keyword, value) };
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
            (Shape::Reference, Value::String(text)) => {
                let reference = (self.local(schema), text.clone());
                self.outline.references.push(reference);
            }
            (Shape::Anchor, Value::String(name)) => self.anchor(schema, &path, name),
            (Shape::Identifier, Value::String(id)) => self.identifier(schema, &path, id),
            (Shape::NamesByName, Value::Object(map)) => {
                map.iter().for_each(|(name, names)| self.dependent_names(&path.key(name), name, names));
            }
            _ => self.plain(&path, keyword, shape, value),
        }
    }

    /// Keywords whose value is no schema.
    fn plain(&mut self, path: &Path, keyword: &str, shape: Shape, value: &Value) {
        match (shape, value) {
            (Shape::Type, _) => self.types(path, value),
            (Shape::Enum, Value::Array(list)) if !list.is_empty() => self.distinct(path, list),
            (Shape::Names, Value::Bool(_)) => self.problems.add(
                path,
                "is a boolean, as in the shorthand; in a JSON Schema the object that has the property lists its name",
            ),
            (Shape::Names, Value::Array(list)) if list.iter().all(Value::is_string) => self.distinct(path, list),
            (Shape::Dialect, Value::String(uri)) => self.dialect(path, uri),
            (Shape::Pattern, Value::String(pattern)) => self.pattern(path, pattern),
            (Shape::Format, Value::String(format)) => self.format(path, format),
            (Shape::Text, Value::String(text)) => text::description(path, text, self.problems),
            (Shape::Number, Value::Number(_))
            | (Shape::Flag, Value::Bool(_))
            | (Shape::List, Value::Array(_))
            | (Shape::Anything, _) => {}
            (Shape::PositiveNumber, Value::Number(number)) if number.as_f64().is_some_and(|n| n > 0.0) => {}
            (Shape::Count, Value::Number(number)) if is_count(number) => {}
            _ => self.problems.add(path, format!("`{keyword}` must be {}", expected(shape))),
        }
    }

    fn unknown(&mut self, path: &Path, keyword: &str, value: &Value) {
        let message = if let Some(reason) = keywords::refusal(keyword) {
            format!("`{keyword}` {reason}")
        } else if keyword.starts_with("x-") {
            // The runtime's validator takes an object at an unknown keyword for a schema.
            if !value.is_object() {
                return;
            }
            "an extension keyword may hold text, a number, a boolean or a list, no object".to_owned()
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

    fn dependent_names(&mut self, path: &Path, name: &str, names: &Value) {
        if matches!(name, "id" | "$id" | "$ref" | "$anchor" | "$recursiveRef") {
            self.problems.add(path, "the runtime's validator takes this name for a keyword; use `dependentSchemas`");
        }
        match names {
            Value::Array(list) if list.iter().all(Value::is_string) => self.distinct(path, list),
            _ => self.problems.add(path, "must be a list of property names"),
        }
    }

    fn anchor(&mut self, schema: &Path, path: &Path, name: &str) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(allowed) {
            self.problems.add(path, "must be a letter or `_`, then letters, digits, `_`, `-` or `.`");
        } else if self.outline.anchors.insert(name.to_owned(), self.local(schema)).is_some() {
            self.problems.add(path, format!("{name:?} names a second schema; anchors must differ"));
        }
    }

    fn identifier(&mut self, schema: &Path, path: &Path, id: &str) {
        if !self.local(schema).is_empty() {
            self.problems.add(path, "`$id` may stand only at the root of a schema; use `$anchor` or `$defs`");
        } else if url::Url::parse(id).is_err() || id.contains('#') {
            self.problems.add(path, "`$id` must be an absolute URI without a fragment; it may be left out");
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
        if let Err(error) = LiteralParser::new(&allocator, pattern, Some("u"), Options::default()).parse() {
            let message = format!("{} is no regular expression as JavaScript's `u` mode wants it", quote(pattern));
            self.problems.add(path, format!("{message}: {}", error.message));
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
        | Shape::Anchor
        | Shape::Dialect
        | Shape::Identifier
        | Shape::Pattern
        | Shape::Format
        | Shape::Text => "a text",
    }
}
