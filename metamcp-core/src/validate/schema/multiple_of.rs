//! `multipleOf` by decimals, at every size: the crate goes by doubles where 128 bits do not hold a number's digits.

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError};
use serde_json::{Map, Value};

struct MultipleOf(f64);

impl<'i> Keyword<'i> for MultipleOf {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if Keyword::is_valid(self, instance) {
            return Ok(());
        }
        Err(ValidationError::custom(format!("the value is not a multiple of {}", self.0)))
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        instance.as_f64().is_none_or(|value| is_multiple(value, self.0))
    }
}

/// Makes the keyword, in the form in which the crate takes it.
#[expect(clippy::unnecessary_wraps, reason = "the crate's own signature")]
pub(super) fn keyword<'a>(
    _parent: &'a Map<String, Value>,
    value: &'a Value,
    _place: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    // The meta-schema has seen it: a number greater than 0.
    Ok(Box::new(MultipleOf(value.as_f64().unwrap_or(1.0))))
}

fn is_multiple(value: f64, divisor: f64) -> bool {
    // Whole numbers have exact remainders.
    if divisor.fract() == 0.0 || value == 0.0 {
        return value % divisor == 0.0;
    }
    let ((digits, exponent), (divisor, divisor_exponent)) = (decimal(value), decimal(divisor));
    let shift = exponent - divisor_exponent;
    if shift >= 0 {
        // Both factors are below 10^17, so that their product fits.
        return (0..shift).fold(digits % divisor, |rest, _| rest * 10 % divisor) == 0;
    }
    // A number of 17 digits is no multiple of 10^18.
    10_u128
        .checked_pow(shift.unsigned_abs())
        .and_then(|scale| divisor.checked_mul(scale))
        .is_some_and(|divisor| digits % divisor == 0)
}

/// A number's sign left away, as `digits × 10^exponent`: exact for the shortest text that stands for it.
fn decimal(value: f64) -> (u128, i32) {
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits = mantissa.replace('.', "").parse().unwrap_or_default();
    (digits, exponent.parse::<i32>().unwrap_or_default() - i32::try_from(fraction).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_decide_and_not_doubles() {
        for (value, divisor) in [
            (0.3, 0.1),
            (-19.99, 0.01),
            (f64::MAX, 2.5),
            (1e20, 0.01),
            (0.0, 0.1),
            (1e300, 1e-7),
            (12.0, 3.0),
            (1e-300, 1e-300),
        ] {
            assert!(is_multiple(value, divisor), "{value} of {divisor}");
        }
        for (value, divisor) in [
            (0.29 + f64::EPSILON, 0.01),
            (5e-324, 0.1),
            (1.5, 2.5),
            (1e-300, 0.1),
            (0.5, 2.0),
            (1e-7, 1e300),
            (2.5, 1e300),
        ] {
            assert!(!is_multiple(value, divisor), "{value} of {divisor}");
        }
    }
}
