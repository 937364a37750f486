//! Takes tokens from the operator's own token server (中控) over HTTP. JSON pointers say where they are.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::Duration;

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    api::{Client, ClientError, body},
    lenient,
    lifetime::{self, VOUCHED},
};
use crate::{
    metrics::Cause,
    net::{dns::Resolver, tls::TlsRoots},
    secret::{self, Secret, SecretSource},
    token::{Token, rotation::reread},
    wechat::errcode,
};

/// The time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the server is polled while WeChat refuses its token. Requests are free, and every call fails
/// until the server has another token.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How long to wait for the header file to be read again. It may be on a network.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The server's address, and where its reply has the token.
#[derive(Clone)]
pub struct Options {
    /// The URL to GET; http or https. It may hold a key, and is never shown.
    pub url: Secret,
    /// A line `Name: value` to send along.
    pub header: Option<Arc<SecretSource>>,
    /// The JSON pointer (RFC 6901) to the token; if it is empty, the token is the whole body.
    pub token_pointer: String,
    /// The JSON pointer to its lifetime: seconds, or a Unix time in seconds or milliseconds.
    pub expires_pointer: String,
    /// The trusted roots.
    pub tls: TlsRoots,
}

/// Takes an account's tokens from a server.
#[derive(Debug)]
pub struct TokenServer {
    client: Client,
    options: Options,
    /// The token that WeChat refuses and the server still returns.
    refused: ArcSwapOption<Token>,
}

/// Why the server gave no token. It never holds the URL or anything of the reply.
#[derive(Debug, thiserror::Error)]
enum ServerError {
    #[error("token.header_file {0}")]
    Header(&'static str),
    #[error("token.url could not be reached: {0}")]
    Unreachable(String),
    #[error("token.url broke off its answer: {0}")]
    Body(#[source] TokenError),
    #[error("token.url answered HTTP status {0}")]
    Status(u16),
    #[error("token.url answered {length} bytes{}, in which {problem}", with_code(.code))]
    Reply {
        length: usize,
        code: Option<i64>,
        #[source]
        problem: ReplyError,
    },
}

fn with_code(code: &Option<i64>) -> String {
    code.map_or(String::new(), |code| format!(" and errcode {code}"))
}

/// What is wrong with a reply of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ReplyError {
    #[error("there is no JSON")]
    NotJson,
    #[error("there is no text at token.token_pointer")]
    TokenPointer,
    #[error("there is no number at token.expires_pointer")]
    ExpiresPointer,
    #[error("there is no token, which is one word")]
    NoToken,
    #[error("the token has expired by its own word")]
    Expired,
}

impl TokenServer {
    /// The server of `options`, whose name is resolved by `dns`. Nothing is requested yet.
    pub fn new(options: Options, dns: Resolver) -> Result<Self, ClientError> {
        let tls = options.tls.following();
        let client = Client::near(tls, dns, REQUEST_TIMEOUT / 2, REQUEST_TIMEOUT)?;
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

    async fn token(&self) -> Result<Token, ServerError> {
        let mut request = self.client.get(self.options.url.expose());
        if let Some(file) = &self.options.header {
            reread(file, RELOAD_TIMEOUT).await;
            let (name, value) = header(&file.held()).map_err(ServerError::Header)?;
            request = request.header(name, value);
        }
        let sent = request.send().await;
        let reply = sent.map_err(|error| ServerError::Unreachable(error.to_string()))?;
        let status = reply.status();
        let body = body(reply).await.map_err(ServerError::Body)?;
        if !status.is_success() {
            return Err(ServerError::Status(status.as_u16()));
        }
        let parsed = self.options.parse_reply(&body);
        parsed.map_err(|problem| ServerError::Reply {
            length: body.len(),
            code: errcode::errcode(&body).filter(|code| *code != 0),
            problem,
        })
    }
}

impl TokenSource for TokenServer {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        let refused = request.current.filter(|_| request.cause == Cause::Refusal);
        let token = self.token().await;
        let token = token.map_err(|error| TokenError::Unusable(error.to_string()))?;
        let insists = refused.filter(|refused| refused.is(&token));
        if insists.is_some() || !self.is_refused(&token) {
            self.refused.store(insists);
        }
        let fetched = false;
        Ok(FetchedToken { token, fetched })
    }

    async fn poll(&self) -> Option<Token> {
        // The error is reported when a token is needed.
        let token = self.token().await.ok()?;
        if self.is_refused(&token) {
            return None;
        }
        self.refused.store(None);
        Some(token)
    }

    fn poll_interval(&self) -> Option<Duration> {
        let refused = self.refused.load();
        refused.as_ref().map(|_| POLL_INTERVAL)
    }
}

impl Options {
    /// Reads the token from a reply.
    fn parse_reply(&self, body: &[u8]) -> Result<Token, ReplyError> {
        if self.token_pointer.is_empty() {
            let text = secret::trim(std::str::from_utf8(body).unwrap_or_default());
            return Ok(Token::new(parse_value(&lenient::unquoted(text))?, VOUCHED));
        }
        let reply = lenient::json(body).ok_or(ReplyError::NotJson)?;
        let token = reply.pointer(&self.token_pointer).and_then(Value::as_str);
        let token = token.ok_or(ReplyError::TokenPointer)?;
        let token = parse_value(token)?;
        let left = match reply.pointer(&self.expires_pointer) {
            // Without a lifetime, the server vouches for the token for a while.
            None | Some(Value::Null) => VOUCHED,
            Some(value) => {
                lifetime::remaining(value, Duration::ZERO).ok_or(ReplyError::ExpiresPointer)?
            }
        };
        if left.is_zero() {
            return Err(ReplyError::Expired);
        }
        Ok(Token::new(token, left))
    }
}

/// Reads a header from a line `Name: value`. The error is a phrase that repeats nothing of the line.
pub fn header(line: &Secret) -> Result<(HeaderName, HeaderValue), &'static str> {
    const WRONG: &str = "does not hold one line like Authorization: Bearer …";
    let (name, value) = line.expose().split_once(':').ok_or(WRONG)?;
    let name: HeaderName = name.trim().parse().map_err(|_| WRONG)?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| WRONG)?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn parse_value(token: &str) -> Result<Secret, ReplyError> {
    if token.is_empty() || token.len() > 4096 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ReplyError::NoToken);
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

    fn usual(body: &str) -> Result<(String, u64), ReplyError> {
        read(&options("/access_token", "/expires_in"), body)
    }

    fn read(options: &Options, body: &str) -> Result<(String, u64), ReplyError> {
        let token = options.parse_reply(body.as_bytes())?;
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
            let error = usual(body).unwrap_err().to_string();
            assert!(
                error.contains(says) && !error.contains("HUNTER2"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_by_its_key_only() {
        let server = TokenServer::new(options("/a", "/b"), Resolver::new(None)).unwrap();
        let error = server.token().await.unwrap_err().to_string();
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
