//! Numbers as the runtime holds them: JavaScript has IEEE 754 doubles and no other.

use serde_json::{Number, Value};

/// Up to here every whole number is a double of its own.
const SAFE: f64 = 9_007_199_254_740_992.0;

/// The value that JavaScript reads from this one, in one form: values that it holds equal are equal.
pub(crate) fn as_doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(double(number)),
        Value::Array(items) => items.iter().map(as_doubles).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), as_doubles(value))).collect::<Value>()
        }
        other => other.clone(),
    }
}

fn double(number: &Number) -> Number {
    let Some(double) = number.as_f64() else { return number.clone() };
    if double.fract() == 0.0 && double.abs() <= SAFE {
        #[expect(clippy::cast_possible_truncation, reason = "whole and small enough, as was just checked")]
        return Number::from(double as i64);
    }
    Number::from_f64(double).unwrap_or_else(|| number.clone())
}

/// The double that a whole number would become, if that is another number.
pub(crate) fn rounded(number: &Number) -> Option<f64> {
    let written = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from))?;
    let double = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "made of 64 bits")]
    let read = double as i128;
    (read != written).then_some(double)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_javascript_holds_equal_are_equal() {
        for (a, b) in [
            (json!(1), json!(1.0)),
            (json!(0), json!(-0.0)),
            (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64)),
            (json!(9_223_372_036_854_775_807_u64), json!(9_223_372_036_854_776_000_u64)),
            (json!([{ "a": 1e3 }]), json!([{ "a": 1000 }])),
        ] {
            assert_eq!(as_doubles(&a), as_doubles(&b));
        }
        assert_ne!(as_doubles(&json!(0.1)), as_doubles(&json!(0.2)));
    }

    #[test]
    fn a_whole_number_that_no_double_holds_is_found() {
        let rounded = |value: Value| rounded(value.as_number().unwrap());
        assert_eq!(rounded(json!(9_007_199_254_740_993_u64)), Some(9_007_199_254_740_992.0));
        assert_eq!(rounded(json!(u64::MAX)), Some(18_446_744_073_709_551_616.0));
        assert_eq!(rounded(json!(-9_007_199_254_740_993_i64)), Some(-9_007_199_254_740_992.0));
        assert_eq!(rounded(json!(1_u64 << 63)), None);
        assert_eq!(rounded(json!(1e300)), None);
        assert_eq!(rounded(json!(0.5)), None);
    }
}
