//! How an account's secret looks if it was not saved as the console shows it. A look says nothing of its value.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::wechat::api::Api;

/// What an account's secret looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Look {
    #[error("has quotes around it, which are sent as a part of it: remove them")]
    Quoted,
    #[error("looks like KEY=value: only the value belongs here")]
    Assignment,
    #[error(
        "looks like base64: decode it first (a Kubernetes Secret takes base64 in data, and plain text in stringData)"
    )]
    Base64,
    #[error("is not 32 hexadecimal digits, which an AppSecret of WeChat's is")]
    NotHex,
}

impl Look {
    /// The look of a secret of an account of `api`; `None` if it looks as it should.
    pub(super) fn of(api: Api, secret: &str) -> Option<Self> {
        let is_hex = secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_hexdigit());
        match api {
            _ if is_quoted(secret) => Some(Self::Quoted),
            _ if is_assignment(secret) => Some(Self::Assignment),
            Api::Wechat if is_hex => None,
            _ if is_base64(secret) => Some(Self::Base64),
            Api::Wechat => Some(Self::NotHex),
            Api::Wecom => None,
        }
    }
}

fn is_quoted(secret: &str) -> bool {
    const PAIRS: [(char, char); 4] = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’')];
    secret.chars().count() > 1
        && PAIRS
            .iter()
            .any(|(open, close)| secret.starts_with(*open) && secret.ends_with(*close))
}

fn is_assignment(secret: &str) -> bool {
    let Some((key, value)) = secret.split_once('=') else {
        return false;
    };
    let key = key.trim_start_matches("export ").trim();
    let is_name = |key: &str| {
        key.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    // Base64 ends in equals signs.
    !key.is_empty() && is_name(key) && !value.trim_start_matches('=').is_empty()
}

/// Whether it is base64 of something that can be a secret itself.
fn is_base64(secret: &str) -> bool {
    const SHORTEST: usize = 8;
    let is_text = |text: &[u8]| text.len() >= SHORTEST && text.iter().all(u8::is_ascii_graphic);
    let decoded = STANDARD.decode(secret);
    decoded.is_ok_and(|decoded| is_text(decoded.trim_ascii_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";
    const CORP: &str = "abcdefghijklmnopqrstuvwxyz-_0123456789ABCDE";

    #[test]
    fn a_secret_that_was_saved_in_another_way_is_told_by_its_look() {
        use Api::{Wechat, Wecom};
        let encoded = |text: &str| STANDARD.encode(text);
        for (api, secret, look) in [
            (Wechat, HEX.to_owned(), None),
            (Wechat, HEX.to_uppercase(), None),
            (Wecom, CORP.to_owned(), None),
            (Wecom, HEX.to_owned(), None),
            (Wechat, format!("\"{HEX}\""), Some(Look::Quoted)),
            (Wecom, format!("'{CORP}'"), Some(Look::Quoted)),
            (Wechat, format!("“{HEX}”"), Some(Look::Quoted)),
            (Wechat, "\"".to_owned(), Some(Look::NotHex)),
            (
                Wechat,
                format!("WECHAT_SECRET={HEX}"),
                Some(Look::Assignment),
            ),
            (
                Wecom,
                format!("export secret = {CORP}"),
                Some(Look::Assignment),
            ),
            (Wechat, encoded(HEX), Some(Look::Base64)),
            (Wechat, encoded(&format!("{HEX}\n")), Some(Look::Base64)),
            (Wecom, encoded(CORP), Some(Look::Base64)),
            (Wechat, HEX[1..].to_owned(), Some(Look::NotHex)),
            (Wechat, CORP.to_owned(), Some(Look::NotHex)),
            (Wechat, "g".repeat(32), Some(Look::NotHex)),
        ] {
            assert_eq!(Look::of(api, &secret), look, "{secret}");
        }
    }
}
