//! The keys of a token in Redis, and the format of notes.

use super::format::Format;
use crate::{
    secret::Secret,
    token::{
        Expiry,
        source::{
            TokenError, TokenErrorKind,
            store::{Note, StoredToken},
        },
    },
    wechat::api::Api,
};

/// The parts that an account's keys are made of.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// The API that it speaks.
    pub api: Api,
    /// Its AppID.
    pub appid: &'a str,
    /// Tells it from other accounts with the same API and AppID.
    pub id: &'a str,
    /// The prefix of its keys, instead of the common one.
    pub prefix: Option<&'a str>,
}

/// The keys of one token. In a Redis Cluster all of them are in one hash slot, except `expires_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    format: Format,
    token: String,
    lease: String,
    note: String,
    fetches: String,
    replicas: String,
    /// The key of the token's expiry, in seconds of Redis's clock.
    expires_at: Option<String>,
    /// The key of the lock under which the other programs of the format fetch.
    foreign_lock: Option<String>,
    /// Whether the token is a ticket.
    is_ticket: bool,
}

/// Stands before a ticket that may expire at any time. The scripts know it, too.
const MAY_EXPIRE: &str = "?";

/// The prefix of this program's own keys.
const PREFIX: &str = "wechat-sidecar";

impl Keys {
    /// The keys of an account's token.
    pub fn of_token(format: Format, parts: KeyParts<'_>) -> Self {
        let KeyParts {
            api,
            appid,
            id,
            prefix,
        } = parts;
        match (format, api) {
            (Format::Own, _) => Self::own(parts, "token"),
            // wechatpy's key for WeCom contains the beginning of the secret, which must not be in a key.
            (Format::Wechatpy, Api::Wecom) => Self::own(
                KeyParts {
                    prefix: None,
                    ..parts
                },
                "token",
            ),
            (Format::Wxjava, Api::Wechat) => {
                let prefix = prefix.unwrap_or("wx");
                Self {
                    foreign_lock: Some(format!("{prefix}:lock:{appid}:accessTokenLock")),
                    ..Self::beside(format, format!("{prefix}:access_token:{appid}"))
                }
            }
            (Format::Wxjava, Api::Wecom) => {
                let prefix = prefix.map(|prefix| format!("{prefix}:"));
                let (prefix, name) = (prefix.unwrap_or_default(), unique_name(appid, id));
                let token = format!("{prefix}wechat_cp_access_token_key:{name}");
                Self {
                    foreign_lock: Some(format!("{prefix}wechat_cp_lock:{name}:accessToken")),
                    ..Self::beside(format, token)
                }
            }
            (Format::Wechatpy, Api::Wechat) => {
                let prefix = prefix.unwrap_or("wechatpy");
                let token = format!("{prefix}:{appid}_access_token");
                Self {
                    expires_at: Some(format!("{token}_expires_at")),
                    ..Self::beside(format, token)
                }
            }
        }
    }

    /// This program's own keys for a value of an account, such as its token or a ticket.
    pub fn own(parts: KeyParts<'_>, what: &str) -> Self {
        let api = match parts.api {
            Api::Wechat => "wechat",
            Api::Wecom => "wecom",
        };
        let prefix = parts.prefix.unwrap_or(PREFIX);
        let tag = unique_name(parts.appid, parts.id);
        let key = |name: &str| format!("{prefix}:{{{api}:{tag}}}:{name}");
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
            foreign_lock: None,
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
            foreign_lock: None,
            is_ticket: false,
            token,
        }
    }

    /// The format of the token.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The key of the token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The key of the lock under which other programs fetch this token, if they have one.
    pub(super) fn foreign_lock(&self) -> Option<&str> {
        self.foreign_lock.as_deref()
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

    /// The value without its mark, and whether it is known when it expires.
    pub(super) fn expiry_of<'a>(&self, written: &'a [u8]) -> (&'a [u8], Expiry) {
        let may_expire = written.strip_prefix(MAY_EXPIRE.as_bytes());
        match may_expire.filter(|_| self.is_ticket) {
            Some(ticket) => (ticket, Expiry::Unknown),
            None => (written, Expiry::Known),
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
                TokenError::Errcode {
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
        error: TokenError::Errcode {
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

    fn keys(format: Format, prefix: Option<&str>, api: Api, id: &str) -> Keys {
        let appid = "id1";
        Keys::of_token(
            format,
            KeyParts {
                api,
                appid,
                id,
                prefix,
            },
        )
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
            assert_eq!(keys(format, prefix, api, id).token, key);
        }
        let keys = keys(Format::Wechatpy, None, mp, "id1");
        let all: Vec<_> = keys.all().collect();
        assert_eq!(all[1], "wechat-sidecar:{wechatpy:id1_access_token}:lease");
        assert_eq!(all[5], "wechatpy:id1_access_token_expires_at");
    }

    /// As WxMpRedisConfigImpl, WxMaRedisBetterConfigImpl and AbstractWxCpInRedisConfigImpl name them.
    #[test]
    fn locks_are_those_of_wxjava_where_the_token_is() {
        let (mp, cp) = (Api::Wechat, Api::Wecom);
        for (prefix, api, id, key) in [
            (None, mp, "id1", "wx:lock:id1:accessTokenLock"),
            (Some("wa"), mp, "id1", "wa:lock:id1:accessTokenLock"),
            (
                None,
                cp,
                "1000002",
                "wechat_cp_lock:id1:1000002:accessToken",
            ),
            (Some("p"), cp, "id1", "p:wechat_cp_lock:id1:accessToken"),
        ] {
            let keys = keys(Format::Wxjava, prefix, api, id);
            assert_eq!(keys.foreign_lock(), Some(key));
        }
        for (format, api) in [
            (Format::Own, mp),
            (Format::Wechatpy, mp),
            (Format::Wechatpy, cp),
        ] {
            assert_eq!(keys(format, None, api, "id1").foreign_lock(), None);
        }
    }

    #[test]
    fn a_ticket_says_whether_it_may_expire_at_any_time() {
        use Expiry::{Known, Unknown};
        for (what, expiry, written) in [
            ("ticket:jsapi", Known, "T"),
            ("ticket:jsapi", Unknown, "?T"),
            ("token", Known, "T"),
        ] {
            let parts = KeyParts {
                api: Api::Wechat,
                appid: "id1",
                id: "id1",
                prefix: None,
            };
            let keys = Keys::own(parts, what);
            let token = StoredToken {
                value: Secret::new("T"),
                remaining: tokio::time::Duration::ZERO,
                expiry,
            };
            assert_eq!(keys.encode(&token).expose(), written);
            assert_eq!(keys.expiry_of(written.as_bytes()), (&b"T"[..], expiry));
        }
    }

    #[test]
    fn notes_come_back_as_they_were() {
        let refused = Note::Refused {
            error: TokenError::Errcode {
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
