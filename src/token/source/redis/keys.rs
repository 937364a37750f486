//! The keys of a token in Redis, and the formats of tokens and notes.

use tokio::time::Duration;

use crate::{
    secret::Secret,
    token::{
        Expiry,
        source::{
            TokenError, TokenErrorKind,
            store::{Note, StoreError, StoredToken},
        },
    },
    wechat::api::Api,
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

impl Format {
    /// Writes `token` in this format.
    pub(super) fn encode(self, token: &Secret) -> Secret {
        match self {
            Self::Own | Self::Wxjava => token.clone(),
            Self::Wechatpy => Secret::new(serde_json::Value::from(token.expose()).to_string()),
        }
    }

    /// Reads a token in this format.
    pub(super) fn decode(self, written: &[u8]) -> Result<Secret, StoreError> {
        let token = match self {
            Self::Own | Self::Wxjava => std::str::from_utf8(written).ok().map(Secret::new),
            Self::Wechatpy => serde_json::from_slice(written)
                .ok()
                .map(|text: String| Secret::new(text)),
        };
        // A value in another encoding, such as a serialized Java object, must not be overwritten.
        let plain = |token: &Secret| {
            let text = token.expose();
            !text.is_empty() && text.len() <= 2048 && text.bytes().all(|b| b.is_ascii_graphic())
        };
        token.filter(plain).ok_or(StoreError::NotAToken)
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

/// The keys of one token. In a Redis Cluster all of them are in one hash slot, except `expires_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub(super) format: Format,
    token: String,
    lease: String,
    note: String,
    fetches: String,
    replicas: String,
    /// The key of the token's expiry, in seconds of Redis's clock.
    expires_at: Option<String>,
    /// Whether the token is a ticket.
    is_ticket: bool,
}

/// Stands before a ticket that may expire at any time. The scripts know it, too.
const MAY_EXPIRE: &str = "?";

/// The prefix of this program's own keys.
const PREFIX: &str = "wechat-sidecar";

impl Keys {
    /// The keys of an account's token. `id` tells it from other accounts with the same API and AppID.
    pub fn of_token(format: Format, prefix: Option<&str>, api: Api, appid: &str, id: &str) -> Self {
        match format {
            Format::Own => Self::own(prefix, api, appid, id, "token"),
            // wechatpy's key for WeCom contains the beginning of the secret, which must not be in a key.
            Format::Wechatpy if api == Api::Wecom => Self::own(None, api, appid, id, "token"),
            Format::Wxjava => {
                let token = match api {
                    Api::Wechat => format!("{}:access_token:{appid}", prefix.unwrap_or("wx")),
                    Api::Wecom => {
                        let prefix = prefix.map(|prefix| format!("{prefix}:"));
                        let prefix = prefix.unwrap_or_default();
                        format!(
                            "{prefix}wechat_cp_access_token_key:{}",
                            unique_name(appid, id)
                        )
                    }
                };
                Self::beside(format, token)
            }
            Format::Wechatpy => {
                let prefix = prefix.unwrap_or("wechatpy");
                let token = format!("{prefix}:{appid}_access_token");
                let expires_at = Some(format!("{token}_expires_at"));
                Self {
                    expires_at,
                    ..Self::beside(format, token)
                }
            }
        }
    }

    /// This program's own keys for a value of an account, such as its token or a ticket.
    pub fn own(prefix: Option<&str>, api: Api, appid: &str, id: &str, what: &str) -> Self {
        let api = match api {
            Api::Wechat => "wechat",
            Api::Wecom => "wecom",
        };
        let tag = unique_name(appid, id);
        let key = |name: &str| format!("{}:{{{api}:{tag}}}:{name}", prefix.unwrap_or(PREFIX));
        let beside = |name: &str| match what {
            "token" => key(name),
            _ => key(&format!("{what}:{name}")),
        };
        Self {
            format: Format::Own,
            token: key(what),
            lease: beside("lease"),
            note: beside("note"),
            fetches: beside("fetches"),
            replicas: beside("replicas"),
            expires_at: None,
            is_ticket: what != "token",
        }
    }

    /// This program's own keys beside the token of another program.
    fn beside(format: Format, token: String) -> Self {
        let key = |name| format!("{PREFIX}:{{{token}}}:{name}");
        Self {
            format,
            lease: key("lease"),
            note: key("note"),
            fetches: key("fetches"),
            replicas: key("replicas"),
            expires_at: None,
            is_ticket: false,
            token,
        }
    }

    /// Writes `token`.
    pub(super) fn encode(&self, token: &StoredToken) -> Secret {
        let written = self.format.encode(&token.value);
        match token.expiry {
            Expiry::Unknown if self.is_ticket => {
                Secret::new([MAY_EXPIRE, written.expose()].concat())
            }
            Expiry::Known | Expiry::Unknown => written,
        }
    }

    /// Reads a token, and whether it is known when it expires.
    pub(super) fn decode(&self, written: &[u8]) -> Result<(Secret, Expiry), StoreError> {
        let may_expire = written.strip_prefix(MAY_EXPIRE.as_bytes());
        match may_expire.filter(|_| self.is_ticket) {
            Some(ticket) => Ok((self.format.decode(ticket)?, Expiry::Unknown)),
            None => Ok((self.format.decode(written)?, Expiry::Known)),
        }
    }

    /// All keys, in the order of the scripts' `KEYS`.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        let always = [
            &self.token,
            &self.lease,
            &self.note,
            &self.fetches,
            &self.replicas,
        ];
        always
            .into_iter()
            .chain(&self.expires_at)
            .map(String::as_str)
    }
}

/// The AppID, with the id of an account that shares it.
fn unique_name(appid: &str, id: &str) -> String {
    if id == appid {
        appid.to_owned()
    } else {
        format!("{appid}:{id}")
    }
}

/// Writes a note as JSON.
pub(super) fn encode_note(note: &Note) -> String {
    match note {
        Note::Refused {
            error:
                TokenError::Refused {
                    code,
                    message,
                    kind,
                },
            count,
            credential_fingerprint,
        } => serde_json::json!({
            "errcode": code,
            "errmsg": message,
            "meaning": kind,
            "count": count,
            "circumstances": credential_fingerprint,
        })
        .to_string(),
        Note::Refused { .. } => "{}".to_owned(),
        Note::Confirmed => r#"{"confirmed":true}"#.to_owned(),
    }
}

/// Reads a note. Returns `None` for a note of another version of this program.
pub(super) fn decode_note(text: &[u8]) -> Option<Note> {
    let note: serde_json::Value = serde_json::from_slice(text).ok()?;
    if note.get("confirmed").is_some() {
        return Some(Note::Confirmed);
    }
    let kind: TokenErrorKind = serde_json::from_value(note.get("meaning")?.clone()).ok()?;
    Some(Note::Refused {
        error: TokenError::Refused {
            code: note.get("errcode")?.as_i64()?,
            message: note.get("errmsg")?.as_str()?.to_owned(),
            kind,
        },
        count: note.get("count")?.as_u64()?.try_into().ok()?,
        credential_fingerprint: note.get("circumstances")?.as_u64()?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_key(format: Format, prefix: Option<&str>, api: Api, id: &str) -> String {
        Keys::of_token(format, prefix, api, "id1", id).token
    }

    #[test]
    fn keys_are_those_that_others_use() {
        let (mp, cp) = (Api::Wechat, Api::Wecom);
        for (format, prefix, api, id, key) in [
            (
                Format::Own,
                None,
                mp,
                "id1",
                "wechat-sidecar:{wechat:id1}:token",
            ),
            (
                Format::Own,
                Some("a:b"),
                cp,
                "crm",
                "a:b:{wecom:id1:crm}:token",
            ),
            (Format::Wxjava, None, mp, "id1", "wx:access_token:id1"),
            (Format::Wxjava, Some("wa"), mp, "id1", "wa:access_token:id1"),
            (
                Format::Wxjava,
                None,
                cp,
                "1000002",
                "wechat_cp_access_token_key:id1:1000002",
            ),
            (
                Format::Wxjava,
                Some("p"),
                cp,
                "id1",
                "p:wechat_cp_access_token_key:id1",
            ),
            (
                Format::Wechatpy,
                None,
                mp,
                "id1",
                "wechatpy:id1_access_token",
            ),
            (Format::Wechatpy, Some("p"), mp, "id1", "p:id1_access_token"),
            (
                Format::Wechatpy,
                Some("p"),
                cp,
                "id1",
                "wechat-sidecar:{wecom:id1}:token",
            ),
        ] {
            assert_eq!(token_key(format, prefix, api, id), key);
        }
        let keys = Keys::of_token(Format::Wechatpy, None, mp, "id1", "id1");
        let all: Vec<_> = keys.all().collect();
        assert_eq!(all[1], "wechat-sidecar:{wechatpy:id1_access_token}:lease");
        assert_eq!(all[5], "wechatpy:id1_access_token_expires_at");
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
            assert!(
                format
                    .decode(written.as_bytes())
                    .is_ok_and(|read| read == token)
            );
        }
        for strange in [&b""[..], b"\x04\x09two words", b"\xff"] {
            assert!(Format::Wxjava.decode(strange).is_err());
            assert!(Format::Wechatpy.decode(strange).is_err());
        }
        assert!(Format::Wechatpy.decode(b"plain").is_err());
    }

    #[test]
    fn a_ticket_says_whether_it_may_expire_at_any_time() {
        use Expiry::{Known, Unknown};
        for (what, expiry, written) in [
            ("ticket:jsapi", Known, "T"),
            ("ticket:jsapi", Unknown, "?T"),
            ("token", Known, "T"),
        ] {
            let keys = Keys::own(None, Api::Wechat, "id1", "id1", what);
            let token = StoredToken {
                value: Secret::new("T"),
                remaining: Duration::ZERO,
                expiry,
            };
            assert_eq!(keys.encode(&token).expose(), written);
            let (value, read) = keys.decode(written.as_bytes()).unwrap();
            assert_eq!((value.expose(), read), ("T", expiry));
        }
    }

    #[test]
    fn notes_come_back_as_they_were() {
        let refused = Note::Refused {
            error: TokenError::Refused {
                code: 40164,
                message: "invalid ip 1.2.3.4".to_owned(),
                kind: TokenErrorKind::NotWhitelisted,
            },
            count: 3,
            credential_fingerprint: 7,
        };
        for note in [refused, Note::Confirmed] {
            assert_eq!(decode_note(encode_note(&note).as_bytes()), Some(note));
        }
        assert_eq!(decode_note(b"{}"), None);
    }
}
