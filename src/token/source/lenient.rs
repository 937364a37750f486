//! Reads JSON and tokens as other programs and people write them: behind a byte order mark, in quotes, `7200.0`.

use std::borrow::Cow;

use serde_json::Value;

/// Parses JSON that may follow a byte order mark.
pub(in crate::token) fn json(body: &[u8]) -> Option<Value> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let body = body.trim_ascii_start();
    serde_json::from_slice(body.strip_prefix(BOM).unwrap_or(body)).ok()
}

/// The whole seconds in a number or in its text.
pub(in crate::token) fn seconds(value: &Value) -> Option<u64> {
    let number: f64 = match value {
        Value::String(text) => text.trim().parse().ok()?,
        number => number.as_f64()?,
    };
    // A negative number becomes 0.
    (!number.is_nan()).then_some(number as u64)
}

/// A word without the quotes around it, if there are any.
pub(super) fn unquoted(text: &str) -> Cow<'_, str> {
    if text.starts_with('"')
        && let Ok(word) = serde_json::from_str::<String>(text)
    {
        return word.into();
    }
    let word = text.strip_prefix('\'');
    word.and_then(|word| word.strip_suffix('\''))
        .unwrap_or(text)
        .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn seconds_are_a_number_in_any_form() {
        for (value, expected) in [
            (json!(7200), Some(7200)),
            (json!(7200.0), Some(7200)),
            (json!("7200"), Some(7200)),
            (json!(" 7200.5 "), Some(7200)),
            (json!(0), Some(0)),
            (json!(-1), Some(0)),
            (json!(1e300), Some(u64::MAX)),
            (json!("NaN"), None),
            (json!("soon"), None),
            (json!(null), None),
            (json!(true), None),
        ] {
            assert_eq!(seconds(&value), expected, "{value}");
        }
    }

    #[test]
    fn quotes_go_in_pairs() {
        for (text, expected) in [
            ("T", "T"),
            (r#""T""#, "T"),
            (r#""a\"b\/c""#, "a\"b/c"),
            ("'T'", "T"),
            (r#""T"#, r#""T"#),
            ("'T", "'T"),
            ("'", "'"),
            ("", ""),
        ] {
            assert_eq!(unquoted(text), expected);
        }
    }
}
