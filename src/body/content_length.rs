//! Parses the value of a `Content-Length`.

/// The largest length that is accepted.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// The number of bytes that `digits` state. `None` if there is anything but digits (`str::parse` would take a sign), or
/// if the number is too large.
pub fn parse(digits: &[u8]) -> Option<u64> {
    let append = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    let length = digits.iter().try_fold(0, append)?;
    (!digits.is_empty() && length <= MAX_LENGTH).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_only_and_has_a_limit() {
        for (text, length) in [
            ("0", Some(0)),
            ("0012", Some(12)),
            ("9223372036854775807", Some(MAX_LENGTH)),
            ("9223372036854775808", None),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1,1", None),
            ("0x1", None),
        ] {
            assert_eq!(parse(text.as_bytes()), length, "{text}");
        }
    }
}
