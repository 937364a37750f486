//! The formats of tokens in Redis, and what other values look like.

use tokio::time::Duration;

use crate::{
    secret::Secret,
    token::{PLACEHOLDER, source::store::ValueForm},
};

/// The format of tokens, which other programs may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// This program's own: the token alone.
    Own,
    /// WxJava's: the token alone, under WxJava's key.
    Wxjava,
    /// wechatpy's: the token in JSON, and its expiry under another key.
    Wechatpy,
}

/// What a string under a token's key is.
pub(super) enum Decoded {
    /// A token.
    Token(Secret),
    /// A placeholder of this program's. An SDK took it for a token and cached it there.
    Placeholder,
    /// Something else.
    Foreign(ValueForm),
}

/// A longer text is no token.
const MAX_TOKEN: usize = 2048;

/// How values begin that Java programs write: Redisson's Kryo5Codec and its older MarshallingCodec, and
/// Java's own serialization.
const JAVA_CODECS: [&[u8]; 3] = [b"\x03\x01", b"\x04\x09", b"\xac\xed\x00\x05"];

impl Format {
    /// Writes `token` in this format.
    pub(super) fn encode(self, token: &Secret) -> Secret {
        match self {
            Self::Own | Self::Wxjava => token.clone(),
            Self::Wechatpy => Secret::new(serde_json::Value::from(token.expose()).to_string()),
        }
    }

    /// Reads a value in this format.
    pub(super) fn decode(self, written: &[u8]) -> Decoded {
        let text = match self {
            Self::Own | Self::Wxjava => std::str::from_utf8(written).ok().map(str::to_owned),
            Self::Wechatpy => serde_json::from_slice(written).ok(),
        };
        match text.map(Secret::new) {
            Some(text) if text.expose().starts_with(PLACEHOLDER) => Decoded::Placeholder,
            Some(text) if is_token(text.expose()) => Decoded::Token(text),
            _ => Decoded::Foreign(self.form(written)),
        }
    }

    /// What a value looks like that is no token in this format.
    fn form(self, written: &[u8]) -> ValueForm {
        let is_text = |text: &str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
        let Some(first) = written.first() else {
            return ValueForm::Empty;
        };
        if JAVA_CODECS.iter().any(|codec| written.starts_with(codec)) {
            return ValueForm::JavaCodec;
        }
        match std::str::from_utf8(written) {
            Ok(text) if is_text(text) && JSON.contains(first) => ValueForm::Json,
            Ok(text) if is_token(text) && self == Self::Wechatpy => ValueForm::NotJson,
            Ok(text) if is_text(text) => ValueForm::Text(written.len()),
            _ => ValueForm::Binary(written.len()),
        }
    }

    /// How a placeholder begins in this format.
    pub(super) fn placeholder(self) -> String {
        match self {
            Self::Own | Self::Wxjava => PLACEHOLDER.to_owned(),
            Self::Wechatpy => format!("\"{PLACEHOLDER}"),
        }
    }

    /// How much too short the lifetimes may be that other programs write.
    pub(super) fn ttl_skew(self) -> Duration {
        match self {
            Self::Own | Self::Wechatpy => Duration::from_secs(2),
            // Most configurations of WxJava subtract 200 s.
            Self::Wxjava => Duration::from_secs(210),
        }
    }
}

/// How JSON begins that could be around a token. No token begins like this.
const JSON: &[u8] = b"\"{[";

fn is_token(text: &str) -> bool {
    let is_json = text
        .bytes()
        .next()
        .is_some_and(|first| JSON.contains(&first));
    let is_word = text.bytes().all(|byte| byte.is_ascii_graphic());
    !text.is_empty() && text.len() <= MAX_TOKEN && is_word && !is_json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(format: Format, written: &[u8]) -> ValueForm {
        match format.decode(written) {
            Decoded::Foreign(form) => form,
            Decoded::Token(_) | Decoded::Placeholder => panic!("{}", written.escape_ascii()),
        }
    }

    #[test]
    fn tokens_are_written_as_others_read_them() {
        let token = Secret::new("T-1_\"x");
        for (format, written) in [
            (Format::Own, "T-1_\"x"),
            (Format::Wxjava, "T-1_\"x"),
            (Format::Wechatpy, "\"T-1_\\\"x\""),
        ] {
            assert_eq!(format.encode(&token).expose(), written);
            let read = format.decode(written.as_bytes());
            assert!(matches!(read, Decoded::Token(read) if read == token));
        }
    }

    #[test]
    fn a_value_that_is_no_token_is_told_by_its_look() {
        let redisson = [&b"\x03\x01\x8aHUNTER2-77"[..], b"\x04\x09>\x07HUNTER2"];
        for java in redisson
            .into_iter()
            .chain([&b"\xac\xed\x00\x05t\x00\x07HUNTER2"[..]])
        {
            assert_eq!(form(Format::Wxjava, java), ValueForm::JavaCodec);
            assert_eq!(form(Format::Wechatpy, java), ValueForm::JavaCodec);
        }
        let long = "x".repeat(MAX_TOKEN + 1);
        for (written, expected) in [
            (&b""[..], ValueForm::Empty),
            (b"\"HUNTER2\"", ValueForm::Json),
            (b"{\"access_token\":\"HUNTER2\"}", ValueForm::Json),
            (b"HUNTER2 HUNTER2\n", ValueForm::Text(16)),
            ("令牌".as_bytes(), ValueForm::Text(6)),
            (long.as_bytes(), ValueForm::Text(2049)),
            (b"HUNTER2\xff", ValueForm::Binary(8)),
            (b"\x00HUNTER2", ValueForm::Binary(8)),
        ] {
            assert_eq!(form(Format::Own, written), expected);
            assert_eq!(form(Format::Wxjava, written), expected);
        }
        assert_eq!(form(Format::Wechatpy, b"HUNTER2"), ValueForm::NotJson);
        assert_eq!(form(Format::Wechatpy, b"{\"a\":1}"), ValueForm::Json);
        assert_eq!(form(Format::Wechatpy, b"\"two words\""), ValueForm::Json);
    }

    #[test]
    fn a_placeholder_is_no_token_in_any_format() {
        for format in [Format::Own, Format::Wxjava, Format::Wechatpy] {
            let written = format.encode(&Secret::new("sidecar-wx0123456789abcdef"));
            let read = format.decode(written.expose().as_bytes());
            assert!(matches!(read, Decoded::Placeholder), "{format:?}");
            assert!(written.expose().starts_with(&format.placeholder()));
        }
    }
}
