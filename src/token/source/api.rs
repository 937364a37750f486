//! Sends token requests and reads their replies.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use serde_json::Value;
use tokio::time::Duration;

use super::{TokenError, TokenErrorKind, lenient};
pub use crate::client::api::{Client, ClientError};
use crate::{
    client::api::{ApiRequest, ApiResponse, Error},
    metrics::Metrics,
    net::{
        connector::{ConnectOptions, Connector},
        origin::Origin,
    },
    secret::{Secret, SecretSource},
    token::{Token, rotation::reread},
    wechat::{api::Api, errcode},
};

/// The time limit of a token request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest reply that is read. Real ones are far smaller.
const MAX_REPLY: usize = 64 * 1024;

/// How long to wait for a secret file to be read again. It may be on a network.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// A client for token requests, which connects as calls do. Its connections are counted in `metrics`.
pub fn client(options: &ConnectOptions, metrics: Arc<Metrics>) -> Result<Client, ClientError> {
    Client::as_calls(options, REQUEST_TIMEOUT, metrics)
}

/// Sends the sidecar's own requests to the API of one account, over the same upstream as its calls.
#[derive(Clone, Debug)]
pub struct ApiClient {
    client: Client,
    connector: Arc<Connector>,
}

impl ApiClient {
    /// `client` must have been built from the options of `connector`.
    pub fn new(client: Client, connector: Arc<Connector>) -> Self {
        Self { client, connector }
    }

    /// The hosts of its upstream, which tell it from others.
    pub fn hosts(&self) -> String {
        let hosts = self
            .connector
            .origins()
            .into_iter()
            .map(ToString::to_string);
        // Their order changes.
        let mut hosts: Vec<_> = hosts.collect();
        hosts.sort();
        hosts.join(" ")
    }

    /// GETs `target`, a path and a query that may hold a token, and returns the body of the reply.
    pub async fn get(&self, target: &str) -> Result<Vec<u8>, TokenError> {
        let make = |client: &Client, origin: &Origin| client.get(format!("{origin}{target}"));
        body(self.send(make).await?).await
    }

    /// Sends the request that `make` builds to the first origin that can be connected.
    async fn send(
        &self,
        make: impl Fn(&Client, &Origin) -> ApiRequest,
    ) -> Result<ApiResponse, TokenError> {
        let mut failures = Vec::new();
        for origin in self.connector.origins() {
            // Before the request begins, whose time limit is not for the look-up.
            if let Err(error) = self.connector.resolve(origin).await {
                self.connector.note(origin, false);
                failures.push(error.to_string());
                continue;
            }
            match make(&self.client, origin).send().await {
                Ok(reply) => {
                    self.connector.note(origin, true);
                    return Ok(reply);
                }
                Err(Error::Connect { sentence, .. }) => {
                    self.connector.note(origin, false);
                    failures.push(format!("{}: {sentence}", origin.host));
                }
                // Another origin is tried only if nothing was sent: a request that timed out may have created a token.
                Err(Error::Slow(_)) => return Err(TokenError::TimedOut),
                Err(error) => return Err(TokenError::Unreachable(error.to_string())),
            }
        }
        Err(TokenError::Unreachable(failures.join("; ")))
    }
}

/// Sends the token requests of one account.
#[derive(Debug)]
pub(super) struct TokenClient {
    pub(super) client: ApiClient,
    pub(super) api: Api,
    pub(super) secret: Arc<SecretSource>,
}

impl TokenClient {
    /// Sends the request that `make` builds to the first origin that can be connected, and reads the token
    /// from its reply.
    pub(super) async fn send(
        &self,
        make: impl Fn(&Client, &Origin, &Secret) -> ApiRequest,
    ) -> Result<Token, TokenError> {
        reread(&self.secret, RELOAD_TIMEOUT).await;
        let secret = self.secret.held();
        let make = |client: &Client, origin: &Origin| make(client, origin, &secret);
        read(self.api, self.client.send(make).await?, &secret).await
    }

    /// A number that changes with the secret. It is too short to reveal anything about it.
    pub(super) fn credential_fingerprint(&self) -> u16 {
        let mut hash = DefaultHasher::new();
        self.secret.held().expose().hash(&mut hash);
        hash.finish() as u16
    }
}

/// The whole body of a reply.
pub(super) async fn body(reply: ApiResponse) -> Result<Vec<u8>, TokenError> {
    reply.body(MAX_REPLY).await.map_err(|error| match error {
        Error::TooLarge => TokenError::Invalid(error.to_string()),
        error => TokenError::Unreachable(error.to_string()),
    })
}

/// Reads the token from a reply of a token endpoint.
async fn read(api: Api, reply: ApiResponse, secret: &Secret) -> Result<Token, TokenError> {
    let status = reply.status();
    let body = body(reply).await?;
    let token = parse_token(api, &body, secret);
    token.ok_or_else(|| TokenError::Invalid(no_token_in(status.as_u16(), &body)))?
}

/// What is said of a reply that has neither a token nor an error code.
fn no_token_in(status: u16, body: &[u8]) -> String {
    match (status, body.len()) {
        _ if body.trim_ascii_start().starts_with(b"<") => {
            format!("HTTP status {status} and a page in HTML, as of a captive portal or a gateway")
        }
        // It was once WeChat's answer to wrong credentials.
        (200, 0) => {
            "HTTP status 200 and an empty reply, as if the AppID or secret were wrong".to_owned()
        }
        (_, length) => format!("HTTP status {status}, {length} bytes"),
    }
}

/// Returns `None` if the body has neither a token nor an error code.
fn parse_token(api: Api, body: &[u8], secret: &Secret) -> Option<Result<Token, TokenError>> {
    let reply = lenient::json(body);
    let field = |name: &str| reply.as_ref()?.get(name);
    if let Some(code) = errcode::errcode(body).filter(|code| *code != 0) {
        let message = field("errmsg")
            .and_then(Value::as_str)
            .unwrap_or("no errmsg");
        return Some(Err(TokenError::Errcode {
            code,
            message: clean(message, secret),
            kind: TokenErrorKind::of(api, code),
        }));
    }
    let token = field("access_token")?
        .as_str()
        .filter(|token| !token.is_empty())?;
    let seconds = lenient::seconds(field("expires_in")?)?;
    // A lifetime of 0 is not accepted. Long ones are cut to what an `Instant` can hold.
    let lifetime = Duration::from_secs(seconds.min(365 * 86_400));
    (!lifetime.is_zero()).then(|| Ok(Token::new(Secret::new(token), lifetime)))
}

/// An API's message on one line, with the secret removed in case the message repeats it.
fn clean(message: &str, secret: &Secret) -> String {
    let message = message.replace(secret.expose(), "[secret]");
    message
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(body: &str) -> Option<Result<Token, TokenError>> {
        parse_token(Api::Wechat, body.as_bytes(), &Secret::new("HUNTER2"))
    }

    #[test]
    fn a_token_is_a_token_and_a_positive_life() {
        let token = reading(r#"{"access_token":"t","expires_in":7200}"#)
            .unwrap()
            .unwrap();
        assert_eq!(token.value().expose(), "t");
        assert_eq!(token.lifetime(), Duration::from_secs(7200));
        for (lenient, seconds) in [
            (r#"{"errcode":0,"access_token":"t","expires_in":"60"}"#, 60),
            (r#"{"access_token":"t","expires_in":7200.0}"#, 7200),
            ("\u{feff}{\"access_token\":\"t\",\"expires_in\":7200}", 7200),
        ] {
            let token = reading(lenient).unwrap().unwrap();
            assert_eq!(token.lifetime().as_secs(), seconds, "{lenient}");
        }
        let refused = reading("\u{feff}{\"errcode\":40013,\"errmsg\":\"invalid appid\"}");
        assert_eq!(refused.unwrap().unwrap_err().code(), Some(40013));
        for nonsense in [
            "",
            "<html>",
            "{}",
            r#"{"access_token":"t"}"#,
            r#"{"access_token":"","expires_in":7200}"#,
            r#"{"access_token":"t","expires_in":0}"#,
            r#"{"access_token":"t","expires_in":-1}"#,
            r#"{"access_token":7,"expires_in":7200}"#,
        ] {
            assert!(reading(nonsense).is_none(), "{nonsense}");
        }
    }

    #[test]
    fn an_empty_reply_is_a_hint_at_the_credentials() {
        let hint = "AppID or secret";
        assert!(no_token_in(200, b"").contains(hint));
        for (status, length) in [(200, 1), (502, 0)] {
            assert!(!no_token_in(status, &vec![b'x'; length]).contains(hint));
        }
    }

    #[test]
    fn an_error_says_what_was_said_but_never_the_secret() {
        let ip = r#"{"errcode":40164,"errmsg":"invalid ip 1.2.3.4, not in whitelist HUNTER2"}"#;
        let Err(error) = reading(ip).unwrap() else {
            panic!()
        };
        assert_eq!(error.kind(), TokenErrorKind::NotWhitelisted);
        let text = error.to_string();
        assert!(text.contains("40164") && text.contains("1.2.3.4"), "{text}");
        assert!(!text.contains("HUNTER2"), "{text}");
    }

    #[test]
    fn wecom_says_the_same_with_codes_of_its_own() {
        let reading = |body: &str| {
            let secret = Secret::new("HUNTER2");
            parse_token(Api::Wecom, body.as_bytes(), &secret).unwrap()
        };
        for token in [
            r#"{"errcode":0,"errmsg":"ok","access_token":"t","expires_in":7200}"#,
            r#"{"access_token":"t","expires_in":7200}"#,
        ] {
            assert_eq!(reading(token).unwrap().value().expose(), "t");
        }
        for (code, meaning) in [
            (-1, TokenErrorKind::Busy),
            (40001, TokenErrorKind::WrongCorpSecret),
            (40091, TokenErrorKind::WrongCorpSecret),
            (45031, TokenErrorKind::WrongCorpSecret),
            (40013, TokenErrorKind::WrongCorpid),
            (45009, TokenErrorKind::TooOften),
            (60020, TokenErrorKind::NotWhitelisted),
            (40125, TokenErrorKind::Unknown),
        ] {
            let reply = format!(r#"{{"errcode":{code},"errmsg":"hint: [1], from ip: 1.2.3.4"}}"#);
            assert_eq!(reading(&reply).unwrap_err().kind(), meaning, "{code}");
            // Two thousand wrong ones an hour, and the whole IP is blocked.
            let (first, most) = meaning.back_off();
            let wrong = matches!(
                meaning,
                TokenErrorKind::WrongCorpSecret | TokenErrorKind::WrongCorpid
            );
            assert!(!wrong || (first.as_secs() >= 300 && most.as_secs() >= 3600));
            assert!(meaning != TokenErrorKind::TooOften || first.as_secs() >= 60);
        }
    }
}
