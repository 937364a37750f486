//! Tokens from a server that the operator already has (中控): asked over HTTP, understood by pointers.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::{
    task::spawn_blocking,
    time::{Duration, timeout},
};

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    api::{Client, body},
    lifetime::{self, VOUCHED},
};
use crate::{
    metrics::Cause,
    net::tls::TlsRoots,
    secret::{Secret, SecretSource},
    token::Token,
    wechat::errcode,
};

/// How long a request may take in all.
const TIME_OUT: Duration = Duration::from_secs(5);

/// How often the server is asked while WeChat refuses the token that it has: asking is free, and
/// every call fails until it has another.
const LOOK: Duration = Duration::from_secs(5);

/// A header file on a network may take its time.
const SLOWEST: Duration = Duration::from_secs(2);

/// Which server, and where in its reply the token is.
#[derive(Clone)]
pub struct Options {
    /// Asked by GET; http or https. It may hold a key, and is never shown.
    pub url: Secret,
    /// A line `Name: value` to send along.
    pub header: Option<Arc<SecretSource>>,
    /// Where the token is in the JSON that is answered (RFC 6901); the whole body when empty.
    pub token_pointer: String,
    /// Where its life is: seconds, or a Unix time in seconds or milliseconds.
    pub expires_pointer: String,
    /// Whom to trust.
    pub tls: TlsRoots,
}

/// Asks a server for an account's tokens.
#[derive(Debug)]
pub struct TokenServer {
    client: Client,
    options: Options,
    /// The token that WeChat refuses and the server insists on.
    refused: ArcSwapOption<Token>,
}

impl TokenServer {
    /// By `options`. The error is a sentence.
    pub fn new(options: Options) -> Result<Self, String> {
        let client = Client::near(options.tls.config(), TIME_OUT / 2, TIME_OUT)?;
        let refused = ArcSwapOption::empty();
        Ok(Self {
            client,
            options,
            refused,
        })
    }

    fn is_refused(&self, token: &Token) -> bool {
        let refused = self.refused.load();
        refused.as_ref().is_some_and(|refused| refused.is(token))
    }

    async fn token(&self) -> Result<Token, String> {
        let mut request = self.client.get(self.options.url.expose());
        if let Some(file) = &self.options.header {
            let source = file.clone();
            let reread = spawn_blocking(move || source.reread());
            let _ = timeout(SLOWEST, reread).await;
            let (name, value) =
                header(&file.held()).map_err(|problem| format!("token.header_file {problem}"))?;
            request = request.header(name, value);
        }
        let sent = request.send().await;
        let reply = sent.map_err(|error| format!("token.url could not be reached: {error}"))?;
        let status = reply.status();
        let body = body(reply).await;
        let body = body.map_err(|error| format!("token.url broke off its answer: {error}"))?;
        if !status.is_success() {
            let status = status.as_u16();
            return Err(format!("token.url answered HTTP status {status}"));
        }
        self.options.understand(&body).map_err(|problem| {
            let code = errcode::errcode(&body).filter(|code| *code != 0);
            let code = code.map_or(String::new(), |code| format!(" and errcode {code}"));
            let length = body.len();
            format!("token.url answered {length} bytes{code}, in which {problem}")
        })
    }
}

impl TokenSource for TokenServer {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        let refused = wanted.current.filter(|_| wanted.cause == Cause::Refusal);
        let token = self.token().await.map_err(TokenError::Unusable)?;
        let insists = refused.filter(|refused| refused.is(&token));
        if insists.is_some() || !self.is_refused(&token) {
            self.refused.store(insists);
        }
        let fetched = false;
        Ok(FetchedToken { token, fetched })
    }

    async fn poll(&self) -> Option<Token> {
        // Why there is none is said when one is needed.
        let token = self.token().await.ok()?;
        if self.is_refused(&token) {
            return None;
        }
        self.refused.store(None);
        Some(token)
    }

    fn poll_interval(&self) -> Option<Duration> {
        let refused = self.refused.load();
        refused.as_ref().map(|_| LOOK)
    }
}

impl Options {
    /// The token in a reply.
    fn understand(&self, body: &[u8]) -> Result<Token, String> {
        if self.token_pointer.is_empty() {
            let text = std::str::from_utf8(body).unwrap_or_default().trim();
            return Ok(Token::new(plausible(text)?, VOUCHED));
        }
        let reply: Value = serde_json::from_slice(body).map_err(|_| "there is no JSON")?;
        let token = reply.pointer(&self.token_pointer).and_then(Value::as_str);
        let token = token.ok_or("there is no text at token.token_pointer")?;
        let token = plausible(token)?;
        let left = match reply.pointer(&self.expires_pointer) {
            // It vouches for it, for a while at least.
            None | Some(Value::Null) => VOUCHED,
            Some(value) => lifetime::left(value, Duration::ZERO)
                .ok_or("there is no number at token.expires_pointer")?,
        };
        if left.is_zero() {
            return Err("the token has expired by its own word".to_owned());
        }
        Ok(Token::new(token, left))
    }
}

/// A header from a line `Name: value`. The error is a phrase that repeats nothing of it.
pub fn header(line: &Secret) -> Result<(HeaderName, HeaderValue), &'static str> {
    const WRONG: &str = "does not hold one line like Authorization: Bearer …";
    let (name, value) = line.expose().split_once(':').ok_or(WRONG)?;
    let name: HeaderName = name.trim().parse().map_err(|_| WRONG)?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| WRONG)?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn plausible(token: &str) -> Result<Secret, String> {
    if token.is_empty() || token.len() > 4096 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("there is no token, which is one word".to_owned());
    }
    Ok(Secret::new(token))
}

impl PartialEq for Options {
    fn eq(&self, other: &Self) -> bool {
        let header = match (&self.header, &other.header) {
            (None, None) => true,
            (Some(one), Some(two)) => one.same_source(two),
            _ => false,
        };
        header
            && (&self.url, &self.tls) == (&other.url, &other.tls)
            && (&self.token_pointer, &self.expires_pointer)
                == (&other.token_pointer, &other.expires_pointer)
    }
}

impl Eq for Options {}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::load;

    fn options(token_pointer: &str, expires_pointer: &str) -> Options {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Options {
            url: Secret::new("http://127.0.0.1:1/?key=HUNTER2"),
            header: None,
            token_pointer: token_pointer.to_owned(),
            expires_pointer: expires_pointer.to_owned(),
            tls: load(None).unwrap(),
        }
    }

    fn usual(body: &str) -> Result<(String, u64), String> {
        read(&options("/access_token", "/expires_in"), body)
    }

    fn read(options: &Options, body: &str) -> Result<(String, u64), String> {
        let token = options.understand(body.as_bytes())?;
        Ok((
            token.value().expose().to_owned(),
            token.lifetime().as_secs(),
        ))
    }

    #[test]
    fn a_token_and_its_life_are_where_the_pointers_point() {
        let token = |left| Ok(("TOKEN".to_owned(), left));
        assert_eq!(
            usual(r#"{"access_token":"TOKEN","expires_in":60}"#),
            token(60)
        );
        assert_eq!(usual(r#"{"access_token":"TOKEN"}"#), token(300));
        assert_eq!(
            usual(r#"{"access_token":"TOKEN","expires_in":null}"#),
            token(300)
        );
        let deep = options("/data/0/a~1b", "/data/1");
        assert_eq!(read(&deep, r#"{"data":[{"a/b":"TOKEN"},"90"]}"#), token(90));
        assert_eq!(read(&options("", "/x"), "TOKEN\n"), token(300));
    }

    #[test]
    fn a_reply_without_a_token_says_what_is_wrong_and_nothing_of_itself() {
        for (body, says) in [
            ("", "no JSON"),
            ("HUNTER2", "no JSON"),
            (r#"{"token":"HUNTER2"}"#, "token.token_pointer"),
            (r#"{"access_token":7}"#, "token.token_pointer"),
            (r#"{"access_token":""}"#, "no token"),
            (r#"{"access_token":"HUNTER2 HUNTER2"}"#, "no token"),
            (r#"{"access_token":"HUNTER2","expires_in":0}"#, "expired"),
            (
                r#"{"access_token":"HUNTER2","expires_in":"soon"}"#,
                "token.expires_pointer",
            ),
        ] {
            let error = usual(body).unwrap_err();
            assert!(
                error.contains(says) && !error.contains("HUNTER2"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_by_its_key_only() {
        let server = TokenServer::new(options("/a", "/b")).unwrap();
        let error = server.token().await.unwrap_err();
        assert!(error.contains("token.url could not be reached"), "{error}");
        assert!(
            !error.contains("HUNTER2") && !error.contains("127.0.0.1"),
            "{error}"
        );
        assert!(!format!("{server:?}").contains("HUNTER2"), "{server:?}");
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let read = |text: &str| header(&Secret::new(text));
        let (name, value) = read("X-Key:  a b:c").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-key", "a b:c"));
        for bad in [
            "",
            "HUNTER2",
            "X Y: HUNTER2",
            ": HUNTER2",
            "X: a\nY: b",
            "X: \u{1}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
