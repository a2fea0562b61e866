//! The keywords of JSON Schema 2020-12, and why others are refused.

/// What the value of a keyword has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A schema that applies to the same value.
    InPlace,
    /// A schema that applies to a part of the value.
    Within,
    /// Schemas by name for the same value.
    InPlaceMap,
    /// Schemas by name for parts of the value.
    WithinMap,
    /// Schemas by regular expression.
    PatternMap,
    /// Schemas that are only defined here.
    Definitions,
    /// A list of schemas for the same value.
    InPlaceList,
    /// A list of schemas for parts of the value.
    WithinList,
    Type,
    Enum,
    Names,
    NamesByName,
    Reference,
    DynamicReference,
    Anchor,
    DynamicAnchor,
    Dialect,
    Identifier,
    Pattern,
    Format,
    Text,
    Number,
    PositiveNumber,
    Count,
    Flag,
    List,
    Anything,
}

impl Shape {
    /// Whether it is one schema.
    pub(super) fn is_schema(self) -> bool {
        matches!(self, Self::InPlace | Self::Within)
    }

    /// Whether it is an object of schemas.
    pub(super) fn is_map(self) -> bool {
        matches!(self, Self::InPlaceMap | Self::WithinMap | Self::PatternMap | Self::Definitions)
    }

    /// Whether it is a list of schemas.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::InPlaceList | Self::WithinList)
    }
}

/// Every known keyword.
pub(super) const KEYWORDS: &[(&str, Shape)] = &[
    ("type", Shape::Type),
    ("description", Shape::Text),
    ("title", Shape::Text),
    ("properties", Shape::WithinMap),
    ("required", Shape::Names),
    ("items", Shape::Within),
    ("enum", Shape::Enum),
    ("const", Shape::Anything),
    ("default", Shape::Anything),
    ("examples", Shape::List),
    ("additionalProperties", Shape::Within),
    ("patternProperties", Shape::PatternMap),
    ("propertyNames", Shape::Within),
    ("minProperties", Shape::Count),
    ("maxProperties", Shape::Count),
    ("dependentRequired", Shape::NamesByName),
    ("dependentSchemas", Shape::InPlaceMap),
    ("unevaluatedProperties", Shape::Within),
    ("prefixItems", Shape::WithinList),
    ("contains", Shape::Within),
    ("minContains", Shape::Count),
    ("maxContains", Shape::Count),
    ("minItems", Shape::Count),
    ("maxItems", Shape::Count),
    ("uniqueItems", Shape::Flag),
    ("unevaluatedItems", Shape::Within),
    ("minLength", Shape::Count),
    ("maxLength", Shape::Count),
    ("pattern", Shape::Pattern),
    ("format", Shape::Format),
    ("minimum", Shape::Number),
    ("maximum", Shape::Number),
    ("exclusiveMinimum", Shape::Number),
    ("exclusiveMaximum", Shape::Number),
    ("multipleOf", Shape::PositiveNumber),
    ("allOf", Shape::InPlaceList),
    ("anyOf", Shape::InPlaceList),
    ("oneOf", Shape::InPlaceList),
    ("not", Shape::InPlace),
    ("if", Shape::InPlace),
    ("then", Shape::InPlace),
    ("else", Shape::InPlace),
    ("$ref", Shape::Reference),
    ("$dynamicRef", Shape::DynamicReference),
    ("$defs", Shape::Definitions),
    ("definitions", Shape::Definitions),
    ("$anchor", Shape::Anchor),
    ("$dynamicAnchor", Shape::DynamicAnchor),
    ("$schema", Shape::Dialect),
    ("$id", Shape::Identifier),
    ("$comment", Shape::Text),
    ("deprecated", Shape::Flag),
    ("readOnly", Shape::Flag),
    ("writeOnly", Shape::Flag),
    ("contentMediaType", Shape::Text),
    ("contentEncoding", Shape::Text),
    ("contentSchema", Shape::Within),
];

/// Keywords of JSON Schema that are refused, each with what to write instead.
const REFUSED: &[(&str, &str)] = &[
    ("$vocabulary", "belongs to meta-schemas; remove it"),
    ("$recursiveRef", "is from draft 2019-09; use `$dynamicRef`"),
    ("$recursiveAnchor", "is from draft 2019-09; use `$dynamicAnchor`"),
    ("additionalItems", "is from an older draft; use `prefixItems` for the first items and `items` for the rest"),
    ("dependencies", "is from an older draft; use `dependentRequired` or `dependentSchemas`"),
    ("id", "is from draft 4; use `$anchor` or `$defs`"),
    ("nullable", "is from OpenAPI; write `\"type\": [\"string\", \"null\"]`"),
    ("example", "is from OpenAPI; use `examples`, which is a list"),
    ("discriminator", "is from OpenAPI; `oneOf` alone decides"),
    ("optional", "is no keyword; a property is optional unless `required` lists it"),
];

/// Formats that the runtime checks; it ignores every other.
pub(super) const FORMATS: &[&str] = &[
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "json-pointer-uri-fragment",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "url",
    "uuid",
];

/// The simple types.
pub(super) const TYPES: &[&str] = &["string", "number", "integer", "boolean", "array", "object", "null"];

/// The shape of a known keyword's value.
pub(super) fn shape(keyword: &str) -> Option<Shape> {
    KEYWORDS.iter().find(|(name, _)| *name == keyword).map(|(_, shape)| *shape)
}

/// Why a keyword that JSON Schema or its relatives know is refused.
pub(super) fn refusal(keyword: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(name, _)| *name == keyword).map(|(_, reason)| *reason)
}

/// The type that a word from another language stands for.
pub(super) fn type_meant(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let meant = match word.as_str() {
        "str" | "text" | "char" | "date" | "datetime" | "uuid" | "url" => "string",
        "int" | "long" | "int32" | "int64" | "uint" => "integer",
        "float" | "double" | "decimal" => "number",
        "bool" => "boolean",
        "list" | "tuple" | "set" => "array",
        "dict" | "map" | "record" | "json" => "object",
        "none" | "nil" | "undefined" => "null",
        other => return TYPES.iter().copied().find(|known| *known == other),
    };
    Some(meant)
}

/// Property names that every JavaScript object already has: a body that reads one gets a function where the caller
/// left it out.
pub(in crate::validate) fn is_on_every_object(name: &str) -> bool {
    matches!(
        name,
        "__proto__"
            | "__defineGetter__"
            | "__defineSetter__"
            | "__lookupGetter__"
            | "__lookupSetter__"
            | "constructor"
            | "hasOwnProperty"
            | "isPrototypeOf"
            | "propertyIsEnumerable"
            | "toLocaleString"
            | "toString"
            | "valueOf"
    )
}
