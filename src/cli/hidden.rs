//! Hides the credentials in what WeChat remembers of a call, before it is printed.

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// What stands for a credential.
const HIDDEN: &str = "[hidden]";

/// Words in the names of credentials.
const WORDS: [&str; 4] = ["token", "secret", "ticket", "session_key"];

/// Names of credentials that are no part of other names.
const NAMES: [&str; 2] = ["code", "js_code"];

fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word)) || NAMES.contains(&&*name)
}

/// A query, or a form, without credentials.
pub(super) fn query(text: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_credential(&percent_decode_str(name).decode_utf8_lossy()) => {
            format!("{name}={HIDDEN}")
        }
        _ => pair.to_owned(),
    };
    text.split('&').map(pair).collect::<Vec<_>>().join("&")
}

/// A body without credentials. One that cannot be read and may have some is hidden as a whole.
pub(super) fn body(text: &str) -> String {
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        return match hide(&mut value) {
            true => value.to_string(),
            false => text.to_owned(),
        };
    }
    let is_form = !text.contains(char::is_whitespace) && !text.starts_with(['{', '[', '<']);
    let lower = text.to_ascii_lowercase();
    if is_form && text.contains('=') {
        query(text)
    } else if WORDS.iter().any(|word| lower.contains(word)) {
        HIDDEN.to_owned()
    } else {
        text.to_owned()
    }
}

/// Hides the credentials in `value`. Returns whether there were any.
fn hide(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            let mut found = false;
            for (name, value) in fields {
                if is_credential(name) && !value.is_null() {
                    *value = HIDDEN.into();
                    found = true;
                } else {
                    found |= hide(value);
                }
            }
            found
        }
        Value::Array(values) => {
            let mut found = false;
            for value in values {
                found |= hide(value);
            }
            found
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_all_else_is_not() {
        for (text, shown) in [
            ("", ""),
            ("access_token=SECRET", "access_token=[hidden]"),
            (
                "a=1&access%5Ftoken=SECRET&appid=wx&js_code=SECRET&x",
                "a=1&access%5Ftoken=[hidden]&appid=wx&js_code=[hidden]&x",
            ),
        ] {
            assert_eq!(query(text), shown);
        }
        for (text, shown) in [
            ("", ""),
            (r#"{ "touser": "o" }"#, r#"{ "touser": "o" }"#),
            (
                r#"{"a":[{"appsecret":"SECRET"},{"token":["SECRET"]}],"errcode":45009}"#,
                r#"{"a":[{"appsecret":"[hidden]"},{"token":"[hidden]"}],"errcode":45009}"#,
            ),
            ("a=b&secret=SECRET", "a=b&secret=[hidden]"),
            ("{\"access_token\":\"SECRET", "[hidden]"),
            ("<xml>hello</xml>", "<xml>hello</xml>"),
            ("plain text", "plain text"),
        ] {
            assert_eq!(body(text), shown);
        }
    }
}
