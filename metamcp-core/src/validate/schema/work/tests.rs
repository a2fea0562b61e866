//! The steps counted, against those that the crate takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonschema::{Draft, Keyword, ValidationError, Validator};
use proptest::prelude::*;
use serde_json::json;

use super::super::super::problems::Problems;
use super::super::walk;
use super::*;

/// Counts where the crate comes by.
struct Counted(Arc<AtomicU64>);

impl<'i> Keyword<'i> for Counted {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// A validator, how often the crate came by to make it, and a counter of how often it comes by later.
fn counting(schema: &Value) -> (Validator, u64, Arc<AtomicU64>) {
    let (made, counter) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (making, checking) = (Arc::clone(&made), Arc::clone(&counter));
    let options = jsonschema::options().with_draft(Draft::Draft202012).with_keyword(
        "x-count",
        move |_: &Map<String, Value>, _, _| {
            making.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Counted(Arc::clone(&checking))) as Box<dyn for<'i> Keyword<'i>>)
        },
    );
    let validator = options.build(schema).unwrap();
    (validator, made.load(Ordering::Relaxed), counter)
}

fn workload(schema: &Value) -> Workload {
    let mut problems = Problems::default();
    let outline = walk::walk(&Path::root(), schema, &mut problems);
    assert_eq!(problems.len(), 0);
    Workload::of(schema, &outline)
}

/// Definitions by which keywords they have; only those for parts of a value may go back.
fn definitions(written: &[Vec<(u8, usize, usize)>]) -> Value {
    let count = written.len() + 1;
    let name = |index: usize| format!("d{index}");
    let refer = |index: usize| json!({ "$ref": format!("#/$defs/d{index}"), "x-count": true });
    let mut definitions = Map::new();
    for (index, keywords) in written.iter().enumerate() {
        let mut schema = Map::new();
        schema.insert("x-count".to_owned(), json!(true));
        for &(keyword, a, b) in keywords {
            let later = |to: usize| refer(index + 1 + to % (count - index - 1));
            let any = |to: usize| refer(to % count);
            let (keyword, value) = match keyword {
                0 => ("allOf", json!([later(a), later(b)])),
                1 => ("anyOf", json!([later(a), later(b)])),
                2 => ("oneOf", json!([later(a), later(b), later(a + b)])),
                3 => ("not", later(a)),
                4 => ("if", later(a)),
                5 => ("then", later(a)),
                6 => ("else", later(a)),
                7 => ("$ref", later(a)["$ref"].clone()),
                8 => ("dependentSchemas", json!({ "x": later(a) })),
                9 => ("properties", json!({ "x": any(a), "y": any(b) })),
                10 => ("patternProperties", json!({ "^x": any(a), "^[xy]": any(b) })),
                11 => ("additionalProperties", any(a)),
                12 => ("propertyNames", any(a)),
                13 => ("prefixItems", json!([any(a), any(b)])),
                14 => ("items", any(a)),
                15 => ("contains", any(a)),
                16 => ("unevaluatedProperties", any(a)),
                17 => ("unevaluatedItems", any(a)),
                _ => ("type", json!(["object", "array", "string"][a % 3])),
            };
            schema.insert(keyword.to_owned(), value);
        }
        definitions.insert(name(index), schema.into());
    }
    definitions.insert(name(written.len()), json!({ "type": ["string", "object"], "x-count": true }));
    json!({ "$ref": "#/$defs/d0", "x-count": true, "$defs": definitions })
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(json!(1)), Just(json!("x")), Just(json!({}))];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let members = prop::collection::btree_map("[xyz]", inner.clone(), 1..3);
        prop_oneof![prop::collection::vec(inner, 1..3).prop_map(Value::from), members.prop_map(|map| json!(map))]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_crate_never_takes_more_steps_than_were_counted(
        written in prop::collection::vec(prop::collection::vec((0..19_u8, 0..8_usize, 0..8_usize), 1..4), 1..7),
        value in values(),
    ) {
        let schema = definitions(&written);
        let workload = workload(&schema);
        let making = workload.making([]);
        prop_assume!(making.is_some());
        let (validator, made, counter) = counting(&schema);
        prop_assert!(made <= making.unwrap(), "making took {made} of {making:?}: {schema}");
        let checking = workload.checking("", &value);
        prop_assume!(checking.is_some());
        let _errors = validator.iter_errors(&value).count();
        let checked = counter.load(Ordering::Relaxed);
        prop_assert!(checked <= checking.unwrap(), "checking took {checked} of {checking:?}: {schema} {value}");
    }
}

#[test]
fn what_a_definition_is_allowed_is_used_up() {
    let mut problems = Problems::default();
    let afforded = (0..1000).take_while(|_| problems.afford(MOST_STEPS, || Some(MOST_STEPS))).count();
    assert_eq!(afforded, 50);
    // From then on nothing is even counted.
    assert!(!problems.afford(MOST_STEPS, || unreachable!()));
    let mut problems = Problems::default();
    let mut counted = 0;
    for _ in 0..1000 {
        assert!(!problems.afford(MOST_STEPS, || {
            counted += 1;
            None
        }));
    }
    assert_eq!(counted, 51);
}
