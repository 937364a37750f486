//! Indents JSON for a person. Every value keeps its bytes: no number is rounded, and no key is dropped or moved.

use serde::de::IgnoredAny;

/// The spaces of a level.
const INDENT: &str = "  ";

/// `body` with a line for each member; `None` if it is no JSON.
pub(super) fn indented(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let (mut pretty, mut depth) = (String::with_capacity(text.len() * 2), 0);
    let mut rest = text.trim_start();
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '"' => string(rest),
            _ => letter.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after.trim_start();
        match letter {
            '{' | '[' => {
                pretty.push(letter);
                // An empty one stays on its line.
                if rest.starts_with(['}', ']']) {
                    pretty.push_str(&rest[..1]);
                    rest = rest[1..].trim_start();
                } else {
                    depth += 1;
                    line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut pretty, depth);
                pretty.push(letter);
            }
            ',' => {
                pretty.push(letter);
                line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            _ => pretty.push_str(token),
        }
    }
    Some(pretty)
}

fn line(pretty: &mut String, depth: usize) {
    pretty.push('\n');
    pretty.push_str(&INDENT.repeat(depth));
}

/// The length of the string that `text` begins with, with its quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_keeps_its_bytes_and_its_place() {
        let body = br#" {"z":1.10,"a":123456789012345678901234567890 ,"z":-0,
            "s":"\u5fae,\"}{\\","e":[ ],"o":{},"l":[1e5,[null,true]]} "#;
        let expected = r#"{
  "z": 1.10,
  "a": 123456789012345678901234567890,
  "z": -0,
  "s": "\u5fae,\"}{\\",
  "e": [],
  "o": {},
  "l": [
    1e5,
    [
      null,
      true
    ]
  ]
}"#;
        assert_eq!(indented(body).as_deref(), Some(expected));
        for other in [&b""[..], b"{", b"<html>", b"{\"a\":\"\xff\"}", b"{} {}"] {
            assert_eq!(indented(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_indented_is_the_same_document() {
        for text in [
            "3",
            "\"a: b\"",
            "[[],{\"a\":[{}]},\"\\\\\"]",
            "{\"\":{\"b\":[]}}",
        ] {
            let pretty = indented(text.as_bytes()).unwrap();
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(pretty, format!("{value:#}"));
        }
    }
}
