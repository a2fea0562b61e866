//! How much work it is to make a validator and to let it judge a value, known before either is done.
//!
//! The crate `jsonschema` follows a reference each time that it meets one, and has no limit: a schema of 1 KB whose
//! definitions each refer to the next one twice keeps it busy for ever. So its steps are counted first, by schema and by
//! part of the value, each pair once; that takes no longer than the steps that are allowed.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::{mem, ptr};

use serde_json::{Map, Value};

use super::super::problems::Path;
use super::keywords::{self, Shape};
use super::references;
use super::walk::Outline;

/// Most steps for one validator, and for one value.
pub(super) const MOST_STEPS: u64 = 400_000;
/// How many steps with a value take as long as one before: a schema is read, and its references are resolved.
const MAKING: u64 = 4;
/// Longest way through schemas and value: the crate recurses.
const DEPTH: u32 = 500;
/// The index of the document's root: its pointer is the empty one, which comes first.
const ROOT: usize = 0;
/// What a property's name is to `propertyNames`: a value without parts.
const NAME: &Value = &Value::Null;

/// The parts of a schema that make work.
#[derive(Debug)]
pub(super) struct Workload {
    schemas: Vec<Node>,
    /// By JSON pointer.
    places: BTreeMap<String, usize>,
    /// What references name.
    targets: BTreeSet<usize>,
}

/// One schema; others are told by their index.
#[derive(Debug, Default)]
struct Node {
    /// Its own comparisons.
    own: u64,
    /// Schemas for the same value.
    in_place: Vec<(usize, Judged)>,
    references: Vec<usize>,
    properties: BTreeMap<String, usize>,
    patterns: Vec<usize>,
    additional: Option<usize>,
    names: Option<usize>,
    prefix: Vec<usize>,
    items: Option<usize>,
    contains: Option<usize>,
    unevaluated_properties: Option<usize>,
    unevaluated_items: Option<usize>,
    /// Of `allOf`.
    all_of: Vec<usize>,
    /// Alternatives among which the crate looks for a property that tells them apart: it does so from three on.
    alternatives: Vec<usize>,
}

/// How often the crate goes through a part where it explains what is wrong: where the part may fail, it judges first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Once,
    Twice,
}

/// Steps for one schema and one value.
#[derive(Debug, Clone, Copy, Default)]
struct Steps {
    /// To say whether it is valid.
    judging: u64,
    /// To find out which parts are evaluated, for an `unevaluated…` further out.
    marking: u64,
    /// To find every error.
    explaining: u64,
    height: u32,
}

impl Workload {
    /// The work of a schema that was found good.
    pub(super) fn of(schema: &Value, outline: &Outline) -> Self {
        let places: BTreeMap<String, usize> = outline.schemas.keys().cloned().zip(0..).collect();
        let mut schemas: Vec<_> = places.keys().map(|place| Node::of(schema, place, &places)).collect();
        let mut targets = BTreeSet::new();
        for reference in &outline.references {
            // What names nothing was reported.
            for target in references::resolve(outline, reference).unwrap_or_default() {
                if let (Some(&from), Some(&to)) = (places.get(&reference.from), places.get(target)) {
                    schemas[from].references.push(to);
                    targets.insert(to);
                }
            }
        }
        Self { schemas, places, targets }
    }

    /// The steps to make a validator that is also asked for the schemas at these places, or `None` if they are too many.
    pub(super) fn making<'a>(&self, places: impl IntoIterator<Item = &'a str>) -> Option<u64> {
        let mut making = Making {
            schemas: &self.schemas,
            memos: [HashMap::new(), HashMap::new(), HashMap::new()],
            outlined: HashMap::new(),
            outermost: DEPTH,
            visited: 0,
        };
        let places = places.into_iter().filter_map(|place| self.places.get(place));
        let mut asked = [ROOT].into_iter().chain(self.targets.iter().copied()).chain(places.copied());
        asked.try_fold(0, |steps, schema| within_most(steps + MAKING * making.compiling(schema, 0)?))
    }

    /// The steps to find what is wrong with a value by the schema at this place, or `None` if they are too many.
    pub(super) fn checking(&self, place: &str, value: &Value) -> Option<u64> {
        let mut checking = Checking { schemas: &self.schemas, memo: HashMap::new(), visited: 0 };
        let schema = self.places.get(place).copied().unwrap_or(ROOT);
        Some(checking.steps(schema, value, 0)?.explaining)
    }
}

impl Node {
    fn of(document: &Value, place: &str, places: &BTreeMap<String, usize>) -> Self {
        let mut node = Self { own: 1, ..Self::default() };
        let Some(Value::Object(keywords)) = document.pointer(place) else { return node };
        for (keyword, value) in keywords {
            let path = Path::root().join(place).key(keyword);
            let find = |path: &Path| places.get(path.as_str()).copied();
            let map = || -> Vec<_> {
                let names = value.as_object().into_iter().flat_map(Map::keys);
                names.filter_map(|name| Some((name.clone(), find(&path.key(name))?))).collect()
            };
            let list = || -> Vec<_> {
                let count = value.as_array().map_or(0, Vec::len);
                (0..count).filter_map(|index| find(&path.index(index))).collect()
            };
            match (keyword.as_str(), keywords::shape(keyword)) {
                ("properties", _) => node.properties = map().into_iter().collect(),
                ("patternProperties", _) => node.patterns = map().into_iter().map(|(_, schema)| schema).collect(),
                ("additionalProperties", _) => node.additional = find(&path),
                ("propertyNames", _) => node.names = find(&path),
                ("prefixItems", _) => node.prefix = list(),
                ("items", _) => node.items = find(&path),
                ("contains", _) => node.contains = find(&path),
                ("unevaluatedProperties", _) => node.unevaluated_properties = find(&path),
                ("unevaluatedItems", _) => node.unevaluated_items = find(&path),
                ("allOf", _) => node.all_of = list(),
                ("anyOf" | "oneOf", _) => {
                    let alternatives = list();
                    node.in_place.extend(alternatives.iter().map(|&schema| (schema, Judged::Twice)));
                    if alternatives.len() > 2 {
                        node.alternatives.extend(alternatives);
                    }
                }
                ("not" | "if", _) => node.in_place.extend(find(&path).map(|schema| (schema, Judged::Twice))),
                (_, Some(Shape::InPlace)) => node.in_place.extend(find(&path).map(|schema| (schema, Judged::Once))),
                (_, Some(Shape::InPlaceMap)) => {
                    node.in_place.extend(map().into_iter().map(|(_, schema)| (schema, Judged::Once)));
                }
                (_, Some(Shape::Enum | Shape::Names)) => node.own += size(value),
                (_, Some(Shape::NamesByName)) => {
                    node.own += value.as_object().into_iter().flat_map(Map::values).map(size).sum::<u64>();
                }
                _ => node.own += 1,
            }
        }
        node.in_place.extend(node.all_of.iter().map(|&schema| (schema, Judged::Once)));
        node
    }

    /// Schemas for parts of the value.
    fn within(&self) -> impl Iterator<Item = usize> {
        let single = [
            self.additional,
            self.names,
            self.items,
            self.contains,
            self.unevaluated_properties,
            self.unevaluated_items,
        ];
        let several = self.properties.values().chain(&self.patterns).chain(&self.prefix).copied();
        several.chain(single.into_iter().flatten())
    }

    /// How often the crate makes an outline of the schema, with whatever it refers to, for an `unevaluated…` of its own.
    fn outlines(&self) -> u64 {
        u64::from(self.unevaluated_properties.is_some()) + u64::from(self.unevaluated_items.is_some())
    }
}

/// Steps of the crate before it is given a value.
struct Making<'a> {
    schemas: &'a [Node],
    memos: [HashMap<usize, u64>; 3],
    /// Schemas of which an outline is being made, and how deep: the crate leaves a placeholder where it comes back to one.
    outlined: HashMap<usize, u32>,
    /// The least deep of those that the present schema came back to.
    outermost: u32,
    visited: u64,
}

impl Making<'_> {
    /// A schema with all that is written in it; what it refers to is made once for all.
    fn compiling(&mut self, schema: usize, depth: u32) -> Option<u64> {
        self.once(0, schema, depth, |making, node, depth| {
            let mut steps = 1;
            for part in node.within().chain(node.in_place.iter().map(|(part, _)| *part)) {
                steps = within_most(steps + making.compiling(part, depth)?)?;
            }
            for &alternative in &node.alternatives {
                steps = within_most(steps + making.comparing(alternative, depth)?)?;
            }
            match node.outlines() {
                0 => Some(steps),
                outlines => within_most(steps + outlines * making.outlining(schema, depth)?),
            }
        })
    }

    /// What it may evaluate of a value, by all that applies to the same value, references followed.
    fn outlining(&mut self, schema: usize, depth: u32) -> Option<u64> {
        if let Some(&begun) = self.outlined.get(&schema) {
            self.outermost = self.outermost.min(begun);
            return Some(1);
        }
        self.outlined.insert(schema, depth);
        let steps = self.outlining_all(schema, depth);
        self.outlined.remove(&schema);
        steps
    }

    fn outlining_all(&mut self, schema: usize, depth: u32) -> Option<u64> {
        self.once(1, schema, depth, |making, node, depth| {
            let mut steps = 1;
            for part in node.within() {
                steps = within_most(steps + making.compiling(part, depth)?)?;
            }
            for &(part, _) in &node.in_place {
                steps = within_most(steps + making.compiling(part, depth)? + making.outlining(part, depth)?)?;
            }
            for &target in &node.references {
                steps = within_most(steps + making.outlining(target, depth)?)?;
            }
            Some(steps)
        })
    }

    /// Which properties it fixes, as an alternative among others.
    fn comparing(&mut self, schema: usize, depth: u32) -> Option<u64> {
        self.once(2, schema, depth, |making, node, depth| {
            let parts = node.all_of.iter().chain(&node.references);
            parts.copied().try_fold(1, |steps, part| within_most(steps + making.comparing(part, depth)?))
        })
    }

    fn once(
        &mut self,
        memo: usize,
        schema: usize,
        depth: u32,
        steps: impl FnOnce(&mut Self, &Node, u32) -> Option<u64>,
    ) -> Option<u64> {
        if let Some(&known) = self.memos[memo].get(&schema) {
            return Some(known);
        }
        if depth == DEPTH {
            return None;
        }
        self.visited = within_most(self.visited + 1)?;
        let schemas = self.schemas;
        let outer = mem::replace(&mut self.outermost, DEPTH);
        let steps = steps(self, &schemas[schema], depth + 1)?;
        if self.outermost >= depth {
            self.memos[memo].insert(schema, steps);
            self.outermost = outer;
        } else {
            // It took less since it came back to what is being made; elsewhere it takes more.
            self.outermost = self.outermost.min(outer);
        }
        Some(steps)
    }
}

/// Steps of the crate with one value.
struct Checking<'a> {
    schemas: &'a [Node],
    /// By schema, and by where the value lies in memory.
    memo: HashMap<(usize, *const Value), Steps>,
    visited: u64,
}

impl Checking<'_> {
    /// At least as many as it will take; `None` for too many.
    fn steps(&mut self, schema: usize, value: &Value, depth: u32) -> Option<Steps> {
        let key = (schema, ptr::from_ref(value));
        self.visited = within_most(self.visited + 1)?;
        if let Some(&known) = self.memo.get(&key) {
            return (depth + known.height <= DEPTH).then_some(known);
        }
        if depth == DEPTH {
            return None;
        }
        let schemas = self.schemas;
        let node = &schemas[schema];
        let mut sum = Steps { judging: node.own, marking: 1, explaining: node.own, height: 0 };
        for &target in &node.references {
            let steps = self.steps(target, value, depth + 1)?;
            sum.include(steps, Judged::Once)?;
            sum.mark(steps.marking);
        }
        for &(part, judged) in &node.in_place {
            let steps = self.steps(part, value, depth + 1)?;
            sum.include(steps, judged)?;
            sum.mark(steps.marking.saturating_add(steps.judging));
        }
        let mut unevaluated = Steps::default();
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.member(node, name, member, depth + 1, &mut sum, &mut unevaluated)?;
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.item(node, index, item, depth + 1, &mut sum, &mut unevaluated)?;
                }
            }
            _ => {}
        }
        for _ in 0..node.outlines() {
            sum.mark(unevaluated.judging);
            sum.include(unevaluated, Judged::Once)?;
            let marking = Steps { judging: sum.marking, explaining: sum.marking, ..Steps::default() };
            sum.include(marking, Judged::Once)?;
        }
        sum.height += 1;
        self.memo.insert(key, sum);
        Some(sum)
    }

    fn member(
        &mut self,
        node: &Node,
        name: &str,
        member: &Value,
        depth: u32,
        sum: &mut Steps,
        unevaluated: &mut Steps,
    ) -> Option<()> {
        sum.step();
        let property = node.properties.get(name);
        for &part in property.into_iter().chain(&node.patterns) {
            sum.include(self.steps(part, member, depth)?, Judged::Once)?;
        }
        if let (None, Some(part)) = (property, node.additional) {
            sum.include(self.steps(part, member, depth)?, Judged::Once)?;
        }
        if let (None, Some(part)) = (property, node.unevaluated_properties) {
            unevaluated.include(self.steps(part, member, depth)?, Judged::Twice)?;
        }
        if let Some(part) = node.names {
            sum.include(self.steps(part, NAME, depth)?, Judged::Once)?;
        }
        Some(())
    }

    fn item(
        &mut self,
        node: &Node,
        index: usize,
        item: &Value,
        depth: u32,
        sum: &mut Steps,
        unevaluated: &mut Steps,
    ) -> Option<()> {
        sum.step();
        if let Some(&part) = node.prefix.get(index).or(node.items.as_ref()) {
            sum.include(self.steps(part, item, depth)?, Judged::Once)?;
        }
        if let Some(part) = node.contains {
            let steps = self.steps(part, item, depth)?;
            sum.include(steps, Judged::Twice)?;
            sum.mark(steps.judging);
        }
        if let Some(part) = node.unevaluated_items {
            unevaluated.include(self.steps(part, item, depth)?, Judged::Twice)?;
        }
        Some(())
    }
}

impl Steps {
    /// One that every way takes.
    fn step(&mut self) {
        self.judging += 1;
        self.explaining += 1;
        self.mark(1);
    }

    fn mark(&mut self, steps: u64) {
        // What no `unevaluated…` asks for may be as much as it likes.
        self.marking = self.marking.saturating_add(steps);
    }

    /// Adds those of a part. What it takes to mark is the caller's to add.
    fn include(&mut self, part: Self, judged: Judged) -> Option<()> {
        let again = if judged == Judged::Twice { part.judging } else { 0 };
        self.judging = within_most(self.judging.saturating_add(part.judging))?;
        self.explaining = within_most(self.explaining.saturating_add(part.explaining).saturating_add(again))?;
        self.height = self.height.max(part.height);
        Some(())
    }
}

fn within_most(steps: u64) -> Option<u64> {
    (steps <= MOST_STEPS).then_some(steps)
}

fn size(list: &Value) -> u64 {
    list.as_array().map_or(1, |list| list.len() as u64)
}
