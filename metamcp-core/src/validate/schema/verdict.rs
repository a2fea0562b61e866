//! What a schema says of a value, by the crate `jsonschema`: the same as the runtime will say.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, EmailOptions, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::super::problems::{Path, Problems};
use super::keywords::{self, Shape};
use super::work::{MOST_STEPS, Workload};
use super::{multiple_of, pattern, walk};
use crate::number::as_doubles;

/// Problems reported for one value.
const PROBLEMS_PER_INSTANCE: usize = 20;
/// The URI of a document without one.
const NAMELESS: &str = "https://schema.invalid/document";

/// Of a schema that takes too long to get ready.
const BRANCHES: &str = "would take too long to check: definitions refer to others more than once, and those do again, \
    within `anyOf`, `oneOf` or beside `unevaluatedProperties` or `unevaluatedItems`; refer to each only once";
/// Of a value that takes too long to check.
const LONG: &str = "would take too long to check: the schema applies again and again to the same parts of it; let fewer \
    of `anyOf`, `oneOf`, `allOf` and `$ref` apply to the same value, or make this smaller or nest it less";

/// A schema that is ready to judge.
#[derive(Debug)]
pub(in crate::validate) struct Verdict {
    validator: Validator,
    workload: Workload,
}

impl Verdict {
    /// The verdict of a schema that was found good; what its validator cannot do is noted at `path`, which is where the
    /// schema stands or a value would be checked.
    pub(in crate::validate) fn noted(path: &Path, schema: &Value, problems: &mut Problems) -> Option<Self> {
        let workload = Workload::of(schema, &walk::walk(&Path::root(), schema, &mut Problems::default()));
        if !problems.afford(MOST_STEPS, || workload.making([])) {
            problems.add(path, BRANCHES);
            return None;
        }
        let validator =
            validator(schema).map_err(|message| problems.add(path, format!("cannot be checked: {message}")));
        Some(Self { validator: validator.ok()?, workload })
    }

    /// Notes every problem of a value that stands at `path`.
    pub(in crate::validate) fn check(&self, path: &Path, value: &Value, what: &str, problems: &mut Problems) {
        if !problems.afford(MOST_STEPS, || self.workload.checking("", value)) {
            return problems.add(path, LONG);
        }
        for (place, message) in problems_of(&self.validator, value) {
            problems.add(&path.join(&place), format!("{what}: {message}"));
        }
    }

    /// Checks that every `default` in the schema itself is as the schema next to it wants it.
    pub(super) fn check_defaults(&self, path: &Path, schema: &Value, problems: &mut Problems) {
        let defaults = self.checkable_defaults(path, schema, problems);
        if defaults.is_empty() {
            return;
        }
        let mut document = schema.clone();
        let Some(members) = document.as_object_mut() else { return };
        let id = members.entry("$id").or_insert_with(|| NAMELESS.into()).clone();
        let base = id.as_str().unwrap_or(NAMELESS);
        // One schema for all of them at once: the item of each default refers to the schema that it stands in.
        let references: Vec<_> =
            defaults.iter().map(|(place, _)| json!({ "$ref": format!("{base}#{}", in_fragment(place)) })).collect();
        let (places, values): (Vec<_>, Vec<_>) = defaults.into_iter().unzip();
        if !problems.afford(MOST_STEPS, || self.workload.making(places.iter().map(String::as_str))) {
            return problems.add(path, BRANCHES);
        }
        let all = json!({ "$defs": { "document": document }, "prefixItems": references });
        match validator(&all) {
            Ok(validator) => {
                for (place, message) in problems_of(&validator, &Value::Array(values)) {
                    let (index, inner) = place[1..]
                        .split_once('/')
                        .map_or((&place[1..], String::new()), |(index, inner)| (index, format!("/{inner}")));
                    let Some(schema) = index.parse().ok().and_then(|index: usize| places.get(index)) else {
                        continue;
                    };
                    let place = path.join(schema).key("default").join(&inner);
                    problems.add(&place, format!("does not match its own schema: {message}"));
                }
            }
            Err(message) => problems.add(path, format!("has defaults that cannot be checked: {message}")),
        }
    }

    /// Every default as it is checked, with the place of its schema; those that take too long are noted instead.
    fn checkable_defaults(&self, path: &Path, schema: &Value, problems: &mut Problems) -> Vec<(String, Value)> {
        let mut defaults = Vec::new();
        find_defaults(schema, &mut String::new(), &mut defaults);
        // They are checked at once, and so must not be too much together.
        let mut left = MOST_STEPS;
        defaults.retain_mut(|(place, default)| {
            *default = completed(schema, place, default);
            let affordable = problems.afford(MOST_STEPS, || {
                let steps = self.workload.checking(place, default).filter(|steps| *steps <= left)?;
                left -= steps;
                Some(steps)
            });
            if !affordable {
                problems.add(&path.join(place).key("default"), LONG);
            }
            affordable
        });
        defaults
    }
}

fn validator(schema: &Value) -> Result<Validator, String> {
    let mirrored = mirror(schema)?;
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .with_email_options(EmailOptions::default().without_display_text())
        .with_keyword("multipleOf", multiple_of::keyword)
        .with_format("json-pointer-uri-fragment", is_pointer_fragment)
        .with_format("regex", walk::is_pattern);
    options.build(&mirrored).map_err(|error| explain(&error))
}

/// The problems of a value, each with its place.
fn problems_of(validator: &Validator, value: &Value) -> Vec<(String, String)> {
    let value = as_doubles(value);
    let errors = validator.iter_errors(&value).filter(|error| !is_too_much(error)).take(PROBLEMS_PER_INSTANCE);
    errors.map(|error| (error.instance_path().as_str().to_owned(), explain(&error))).collect()
}

/// A default with the defaults of its own members, as the runtime fills them in.
fn completed(schema: &Value, place: &str, value: &Value) -> Value {
    let mut value = value.clone();
    if let (Some(schema), Value::Object(members)) = (schema.pointer(place), &mut value) {
        super::fill_defaults(schema, members);
    }
    value
}

/// The validator's message without a hostile or huge value in it.
pub(super) fn explain(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::FalseSchema => "nothing may stand here".to_owned(),
        _ => error.masked_with("the value").to_string(),
    }
}

/// A pattern may be fine for the runtime and too much for this engine; verification makes the call for real.
fn is_too_much(error: &ValidationError<'_>) -> bool {
    matches!(
        error.kind(),
        ValidationErrorKind::BacktrackLimitExceeded { .. } | ValidationErrorKind::RegexEngineFailure { .. }
    )
}

/// The schema in the words of the crate: its regular expressions, numbers and formats.
fn mirror(schema: &Value) -> Result<Value, String> {
    let Value::Object(keywords) = schema else { return Ok(schema.clone()) };
    let mut mirrored = Map::new();
    for (keyword, value) in keywords {
        let value = match (keywords::shape(keyword), value) {
            (Some(Shape::Pattern), Value::String(text)) => translated(text)?.into(),
            (Some(Shape::Format), Value::String(format)) if format == "url" => "uri".into(),
            (Some(Shape::PatternMap), Value::Object(map)) => mirror_patterns(map)?,
            (Some(shape), _) if shape.is_map() => mirror_members(value)?,
            (Some(shape), Value::Array(list)) if shape.is_list() => {
                list.iter().map(mirror).collect::<Result<Value, _>>()?
            }
            (Some(shape), _) if shape.is_schema() => mirror(value)?,
            _ => as_doubles(value),
        };
        mirrored.insert(keyword.clone(), value);
    }
    Ok(Value::Object(mirrored))
}

fn mirror_members(value: &Value) -> Result<Value, String> {
    let Value::Object(map) = value else { return Ok(value.clone()) };
    map.iter().map(|(name, schema)| Ok((name.clone(), mirror(schema)?))).collect()
}

fn mirror_patterns(map: &Map<String, Value>) -> Result<Value, String> {
    let mut mirrored = Map::new();
    for (text, schema) in map {
        let mut pattern = translated(text)?;
        // Two ways to write one pattern are two rules.
        while mirrored.contains_key(&pattern) {
            pattern.push_str("(?:)");
        }
        mirrored.insert(pattern, mirror(schema)?);
    }
    Ok(Value::Object(mirrored))
}

fn translated(text: &str) -> Result<String, String> {
    pattern::to_rust(text).map_err(ToOwned::to_owned)
}

/// Every default with the place of the schema that it stands in.
fn find_defaults(schema: &Value, place: &mut String, defaults: &mut Vec<(String, Value)>) {
    let Value::Object(keywords) = schema else { return };
    if let Some(default) = keywords.get("default") {
        defaults.push((place.clone(), default.clone()));
    }
    for (keyword, value) in keywords {
        let Some(shape) = keywords::shape(keyword) else { continue };
        let mut inner = |steps: &[&str], schema: &Value| {
            let length = place.len();
            place.push_str(Path::root().key(keyword).as_str());
            for step in steps {
                place.push_str(Path::root().key(step).as_str());
            }
            find_defaults(schema, place, defaults);
            place.truncate(length);
        };
        match value {
            // Their pointers change where the patterns do.
            Value::Object(_) if shape == Shape::PatternMap => {}
            Value::Object(map) if shape.is_map() => map.iter().for_each(|(name, schema)| inner(&[name], schema)),
            Value::Array(list) if shape.is_list() => {
                list.iter().enumerate().for_each(|(index, schema)| inner(&[&index.to_string()], schema));
            }
            _ if shape.is_schema() => inner(&[], value),
            _ => {}
        }
    }
}

/// A JSON pointer as a fragment of a URI.
fn in_fragment(pointer: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'~' | b'-' | b'_' | b'.');
    pointer
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// RFC 6901, section 6.
fn is_pointer_fragment(text: &str) -> bool {
    let Some(pointer) = text.strip_prefix('#') else { return false };
    if !(pointer.is_empty() || pointer.starts_with('/')) {
        return false;
    }
    let mut rest = pointer.bytes();
    while let Some(byte) = rest.next() {
        let good = match byte {
            b'%' => rest.by_ref().take(2).filter(u8::is_ascii_hexdigit).count() == 2,
            b'~' => matches!(rest.next(), Some(b'0' | b'1')),
            _ => byte.is_ascii_alphanumeric() || b"/_-.!$&'()*+,;:=@".contains(&byte),
        };
        if !good {
            return false;
        }
    }
    true
}
