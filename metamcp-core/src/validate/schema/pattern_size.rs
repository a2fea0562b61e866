//! How large a regular expression is once its repetitions are written out. The runtime goes through a text with all
//! steps of a pattern side by side, so that no pattern takes it for ever; in return it bounds their number, by the same
//! rules as `templates/runtime/src/schema-pattern-run.ts`.

use oxc_regular_expression::ast::{Disjunction, LookAroundAssertion, Pattern, Quantifier, Term};

/// Steps of a pattern.
const STEPS: usize = 2048;
/// Look-arounds of a pattern.
const LOOKS: usize = 16;

/// Why the runtime cannot take the pattern, if it cannot.
pub(super) fn check(pattern: &Pattern<'_>) -> Result<(), String> {
    let mut size = Size::default();
    let steps = size.disjunction(&pattern.body);
    // A last step says that a match is complete.
    let steps = steps.saturating_add(size.looked).saturating_add(1);
    if size.flags {
        return Err("changes flags in the middle, which is not supported; write out both cases".into());
    }
    if size.looks > LOOKS {
        return Err(format!("has {} look-arounds; at most {LOOKS} are allowed", size.looks));
    }
    if steps > STEPS {
        let hint = "use maxLength, or repeat less";
        return Err(format!(
            "is {steps} steps long with its repetitions written out; at most {STEPS} are allowed: {hint}"
        ));
    }
    Ok(())
}

#[derive(Default)]
struct Size {
    looks: usize,
    /// Steps within look-arounds: each is written once, however often what it stands in is repeated.
    looked: usize,
    flags: bool,
}

impl Size {
    fn disjunction(&mut self, disjunction: &Disjunction<'_>) -> usize {
        let alternatives = &disjunction.body;
        let steps = alternatives.iter().flat_map(|alternative| &alternative.body).map(|term| self.term(term));
        let fork = usize::from(alternatives.len() > 1);
        steps.fold(fork, usize::saturating_add)
    }

    fn term(&mut self, term: &Term<'_>) -> usize {
        match term {
            Term::Quantifier(quantifier) => self.quantifier(quantifier),
            Term::CapturingGroup(group) => self.disjunction(&group.body),
            Term::IgnoreGroup(group) => {
                self.flags |= group.modifiers.is_some();
                self.disjunction(&group.body)
            }
            Term::LookAroundAssertion(look) => self.look(look),
            _ => 1,
        }
    }

    fn look(&mut self, look: &LookAroundAssertion<'_>) -> usize {
        self.looks += 1;
        let steps = self.disjunction(&look.body);
        self.looked = self.looked.saturating_add(steps).saturating_add(1);
        1
    }

    fn quantifier(&mut self, Quantifier { min, max, body, .. }: &Quantifier<'_>) -> usize {
        let steps = self.term(body);
        let count = |times: u64| usize::try_from(times).unwrap_or(usize::MAX);
        let forked = steps.saturating_add(1);
        let optional = match max {
            Some(max) => forked.saturating_mul(count(max.saturating_sub(*min))),
            None => forked,
        };
        steps.saturating_mul(count(*min)).saturating_add(optional)
    }
}

#[cfg(test)]
mod tests {
    use oxc_allocator::Allocator;
    use oxc_regular_expression::{LiteralParser, Options};

    use super::*;

    fn problem(pattern: &str) -> Option<String> {
        let allocator = Allocator::default();
        let parsed = LiteralParser::new(&allocator, pattern, Some("u"), Options::default()).parse();
        check(&parsed.expect("it is well-formed")).err()
    }

    #[test]
    fn repetitions_count_as_often_as_they_may_happen() {
        // One step says that the match is complete.
        for (pattern, steps) in [
            ("a{2047}", 2048),
            ("(?:a|b){682}", 3 * 682 + 1),
            ("(?:ab?){682}", 3 * 682 + 1),
            ("(?:a{0,10}|[bc]+){85}", 24 * 85 + 1),
        ] {
            assert_eq!(problem(pattern), None, "{pattern} of {steps}");
        }
        for (pattern, steps) in [
            ("a{2048}", "2049"),
            ("(?:a{0,10}|[bc]+){86}", "2065"),
            ("((a{1000}){1000}){1000}", "1000000001"),
            ("(?:(?:a{4294967295}){4294967295}){9}", "18446744073709551615"),
        ] {
            if let Some(problem) = problem(pattern) {
                assert!(problem.contains(&format!("is {steps} steps")), "{pattern}: {problem}");
            } else {
                panic!("{pattern} was taken");
            }
        }
    }

    #[test]
    fn look_arounds_count_once_and_flags_do_not_change() {
        assert_eq!(problem(&"(?=a)".repeat(16)), None);
        assert_eq!(problem("(?:(?=a{1900})a){73}"), None);
        assert!(problem("(?:(?=a{1900})a){75}").is_some());
        assert!(problem(&"(?<!a)".repeat(17)).unwrap_or_default().contains("17 look-arounds"));
        assert!(problem("(?i:a)").unwrap_or_default().contains("flags"));
    }
}
