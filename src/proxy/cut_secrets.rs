//! Cuts our token and our secret out of the headers of a reply, which may quote the target of the call.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header};
use memchr::memmem;
use percent_encoding::percent_decode;

use super::target::named;

/// How often a secret may be percent-encoded: a target in a target is encoded twice.
const MOST_ENCODINGS: usize = 3;

/// Cuts `secrets` out of all headers, however they are percent-encoded. All other bytes stay. Also removes `prefix` from
/// the path of a `Location`, because the sidecar adds it again when the app follows.
pub(super) fn clean_reply(headers: &mut HeaderMap, prefix: &str, secrets: &[&str]) {
    let lengths = secrets.iter().map(|secret| secret.len());
    let shortest = lengths.filter(|length| *length > 0).min();
    for (name, value) in headers.iter_mut() {
        let is_location = matches!(*name, header::LOCATION | header::CONTENT_LOCATION);
        // Nearly every value is shorter than a token.
        let may_quote = shortest.is_some_and(|shortest| value.len() >= shortest);
        if may_quote {
            if is_location {
                replace(value, without_parameters(value.as_bytes(), secrets));
            }
            for secret in secrets {
                replace(value, without(value.as_bytes(), secret));
            }
        }
        if is_location && !prefix.is_empty() {
            replace(value, without_prefix(value.as_bytes(), prefix));
        }
    }
}

/// Sets `value` to what is left of it. The parts of a valid value are valid.
fn replace(value: &mut HeaderValue, left: Option<Vec<u8>>) {
    if let Some(left) = left {
        *value = HeaderValue::try_from(left).unwrap_or(HeaderValue::from_static(""));
    }
}

/// `url` without the parameters that are our own token or secret. `None` if there is none.
fn without_parameters(url: &[u8], secrets: &[&str]) -> Option<Vec<u8>> {
    let mark = memchr::memchr(b'?', url)?;
    let end = memchr::memchr(b'#', url).unwrap_or(url.len());
    let query = url.get(mark + 1..end)?;
    let is_ours = |parameter: &&[u8]| {
        let Some(equals) = memchr::memchr(b'=', parameter) else {
            return false;
        };
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        let name = std::str::from_utf8(name).unwrap_or_default();
        (named(name, "access_token") || named(name, "secret"))
            && (secrets.iter()).any(|secret| {
                value == secret.as_bytes() || percent_decode(value).eq(secret.bytes())
            })
    };
    let parameters = || query.split(|byte| *byte == b'&');
    if !parameters().any(|parameter| is_ours(&parameter)) {
        return None;
    }
    let kept: Vec<&[u8]> = parameters()
        .filter(|parameter| !is_ours(parameter))
        .collect();
    let base = if kept.is_empty() {
        &url[..mark]
    } else {
        &url[..=mark]
    };
    Some([base, &kept.join(&b'&'), &url[end..]].concat())
}

/// `value` without `secret`. `None` if it is not in there.
fn without(value: &[u8], secret: &str) -> Option<Vec<u8>> {
    if secret.is_empty() {
        return None;
    }
    let mut left = None;
    let mut rest = value;
    while let Some(found) = find(rest, secret.as_bytes()) {
        let rest_of = left.get_or_insert_with(|| value.to_vec());
        rest_of.drain(found);
        rest = rest_of;
    }
    left
}

/// Where `secret` stands in `value`, as it is or percent-encoded.
fn find(value: &[u8], secret: &[u8]) -> Option<Range<usize>> {
    if let Some(at) = memmem::find(value, secret) {
        return Some(at..at + secret.len());
    }
    let mut decoded = DecodedText::new(value);
    for _ in 0..MOST_ENCODINGS {
        if !decoded.decode() {
            return None;
        }
        if let Some(at) = memmem::find(&decoded.bytes, secret) {
            return Some(decoded.starts[at]..decoded.starts[at + secret.len()]);
        }
    }
    None
}

/// A text that is percent-decoded, one time after the other.
struct DecodedText {
    bytes: Vec<u8>,
    /// Where each of the bytes begins in the original text, and where this ends.
    starts: Vec<usize>,
}

impl DecodedText {
    fn new(text: &[u8]) -> Self {
        Self {
            bytes: text.to_vec(),
            starts: (0..=text.len()).collect(),
        }
    }

    /// Decodes it once. Returns whether anything was encoded.
    fn decode(&mut self) -> bool {
        let before = self.bytes.len();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (mut read, mut written) = (0, 0);
        while read < before {
            self.starts[written] = self.starts[read];
            let encoded = match self.bytes[read..] {
                [b'%', high, low, ..] => digit(high).zip(digit(low)),
                _ => None,
            };
            (self.bytes[written], read) = match encoded {
                Some((high, low)) => ((high * 16 + low) as u8, read + 3),
                None => (self.bytes[read], read + 1),
            };
            written += 1;
        }
        self.starts[written] = self.starts[before];
        self.bytes.truncate(written);
        self.starts.truncate(written + 1);
        written < before
    }
}

/// `url` without `prefix`, if what follows it is a path.
fn without_prefix(url: &[u8], prefix: &str) -> Option<Vec<u8>> {
    let behind = url.strip_prefix(prefix.as_bytes())?;
    // Two slashes would begin another host.
    let is_path = behind.starts_with(b"/") && !behind.starts_with(b"//");
    is_path.then(|| behind.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &str = "S+/=%41é";

    fn cleaned(name: &'static str, values: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        clean_reply(&mut headers, "/wx", &["TOK", "SEC", ODD]);
        let values = headers.get_all(name).iter();
        values.map(|value| value.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_location_tells_no_secret_and_keeps_all_else() {
        for (came, returned) in [
            (
                "https://h/x?a=1&access_token=TOK&b=2#f",
                "https://h/x?a=1&b=2#f",
            ),
            ("/x?%61ccess_token=TOK", "/x"),
            ("/x/TOK/y?z=TOK", "/x//y?z="),
            ("/x?secret=SEC", "/x"),
            ("/x?secret=%53E%43&&c", "/x?&c"),
            ("/x#?secret=SEC", "/x#?secret="),
            // A token of somebody else's.
            ("/x?access_token=USER&secret", "/x?access_token=USER&secret"),
            ("/x?access_token=&b", "/x?access_token=&b"),
            ("/plain", "/plain"),
            ("/wx/plain?a=1", "/plain?a=1"),
            ("/wx/a?r=%2Fwx", "/a?r=%2Fwx"),
            ("/wxplain", "/wxplain"),
            ("/wx//host/plain", "/wx//host/plain"),
            ("https://h/wx/plain", "https://h/wx/plain"),
        ] {
            for name in ["location", "content-location"] {
                let cleaned = cleaned(name, &[came.as_bytes()]);
                assert_eq!(cleaned, [returned.as_bytes()], "{came}");
            }
        }
        // Bytes that are not UTF-8, and a second line.
        let lines: [&[u8]; 3] = [b"/\xc4\xe3?secret=SEC&\xff", b"/wx/two?TOK", b"/three"];
        let left: [&[u8]; 3] = [b"/\xc4\xe3?\xff", b"/two?", b"/three"];
        assert_eq!(cleaned("location", &lines), left);
    }

    #[test]
    fn no_header_tells_a_secret_however_it_is_encoded() {
        for (came, left) in [
            ("0;url=/x?access_token=TOK&b", "0;url=/x?access_token=&b"),
            ("<TOK>; rel=\"TOKTOK\"", "<>; rel=\"\""),
            ("TTOKOK", ""),
            ("%54OK t%4fk %54%4F%4b", " t%4fk "),
            ("a%2554%254FKb", "ab"),
            ("%25252554OK %2525252554OK", "%25252554OK %2525252554OK"),
            ("%2525254OK %252554OK", "%2525254OK "),
            ("S%2B%2f%3d%2541%c3%A9|S%252B/%253D%252541%25C3%25a9", "|"),
            ("plain %", "plain %"),
            ("", ""),
        ] {
            let cleaned = cleaned("x-any", &[came.as_bytes(), b"other"]);
            assert_eq!(cleaned, [left.as_bytes(), b"other"], "{came}");
        }
        let raw = [b"<".as_slice(), ODD.as_bytes(), b">"].concat();
        assert_eq!(cleaned("link", &[&raw]), [b"<>"]);
    }
}
