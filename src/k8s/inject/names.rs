//! The labels and annotations that injection reads and writes, under one prefix.

use serde_json::{Map, Value};

use super::InjectRefusal;

/// The prefix of all labels and annotations, such as `wechat-sidecar.dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

/// Why a text is not a prefix, as a phrase about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a DNS name")]
pub struct NotADnsName;

/// The default prefix.
pub const PREFIX: &str = "wechat-sidecar.dev";

impl Prefix {
    /// Parses `text` as a DNS name, with or without a slash at its end.
    pub fn parse(text: &str) -> Result<Self, NotADnsName> {
        let name = text.strip_suffix('/').unwrap_or(text);
        if is_dns_name(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(NotADnsName)
        }
    }

    /// The full name of a label or annotation.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// A DNS name below that of the prefix.
    pub fn under(&self, name: &str) -> String {
        format!("{name}.{}", self.0)
    }

    /// The part of `key` after the prefix, if `key` is one of ours.
    pub fn strip<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.0)?.strip_prefix('/')
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(PREFIX.to_owned())
    }
}

/// Whether `text` can be the name of an object in Kubernetes (a DNS subdomain of RFC 1123).
pub(super) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = label.bytes().next().zip(label.bytes().last());
        ends.is_some_and(|(first, last)| plain(first) && plain(last))
            && label.bytes().all(|b| plain(b) || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Checks that `text` can be the name of an object in Kubernetes. The error is a phrase about it.
pub fn object_name(text: &str) -> Result<String, &'static str> {
    let name = is_dns_name(text).then(|| text.to_owned());
    name.ok_or("is not the name of an object in Kubernetes")
}

/// The labels, or the annotations, of an object.
pub(super) fn texts<'a>(object: &'a Value, kind: &str) -> Option<&'a Map<String, Value>> {
    object.get("metadata")?.get(kind)?.as_object()
}

/// The label or annotation `key`, if it is a string. A value that is missing is `None`. Any other value, such as an
/// unquoted `false`, is refused and must not count as missing. `whose` is the name of the object in the refusal.
pub(super) fn word<'a>(
    object: &'a Value,
    kind: &str,
    key: &str,
    whose: &str,
) -> Result<Option<&'a str>, InjectRefusal> {
    match texts(object, kind).and_then(|texts| texts.get(key)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(InjectRefusal::new(format!(
            "{whose} {} {key}: its value is not a string; put it in quotes",
            kind.trim_end_matches('s')
        ))),
    }
}

/// The label or annotation `key` of an object.
pub(super) fn text<'a>(object: &'a Value, kind: &str, key: &str) -> Option<&'a str> {
    texts(object, kind)?.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_dns_name_with_or_without_its_slash() {
        let prefix = Prefix::parse("wechat.example.com/").unwrap();
        assert_eq!(prefix.key("secret"), "wechat.example.com/secret");
        assert_eq!(prefix.strip("wechat.example.com/secret"), Some("secret"));
        assert_eq!(prefix.strip("wechat.example.community/secret"), None);
        for bad in ["", "/", "a//", "A.b", "a..b", "-a", "a b", "a_b"] {
            assert!(Prefix::parse(bad).is_err(), "{bad}");
            assert!(object_name(bad).is_err(), "{bad}");
        }
    }
}
