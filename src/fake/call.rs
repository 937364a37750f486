//! The recorded requests: calls, byte for byte, and token requests.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::time::Instant;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// The number of this request at this fake, counted from 1.
    pub number: u64,
    /// The number of the connection, counted from 1.
    pub connection: u64,
    /// When it had arrived whole.
    pub at: Instant,
    /// Its method, such as `POST`.
    pub method: String,
    /// The request target, byte for byte if it is ASCII.
    pub target: String,
    /// The request line and headers as they arrived, with the empty line at the end.
    pub head: Vec<u8>,
    /// The headers in order, with their names as they were written.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Bytes,
    /// The first `access_token` of the query, decoded.
    pub token: Option<String>,
    /// Whether it was answered with 40001, 40014 or 42001.
    pub refused: bool,
    /// The errcode of the reply, if it had one.
    pub errcode: Option<i64>,
    /// The status of the reply, if there was one.
    pub status: Option<u16>,
}

impl RecordedCall {
    /// The path, decoded, with its leading slashes collapsed to one.
    pub fn path(&self) -> String {
        let path = self.origin_form().split('?').next().unwrap_or_default();
        let path = percent_decode_str(path).decode_utf8_lossy();
        format!("/{}", path.trim_start_matches('/'))
    }

    /// The text behind the first `?`, unchanged.
    pub fn raw_query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The parameters of the query, decoded, in their order.
    pub fn query(&self) -> Vec<(String, String)> {
        self.raw_query()
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(decode_parameter)
            .collect()
    }

    /// The first parameter of this name, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut query = self.query().into_iter();
        query.find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every header of this name, whatever its case.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body, if it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether more than one parameter is an `access_token`.
    pub(super) fn has_two_tokens(&self) -> bool {
        let query = self.query();
        let tokens = query.iter().filter(|(name, _)| name == "access_token");
        tokens.count() > 1
    }

    /// Whether it has no length. WeChat answers 412 to that, except for a GET without a body.
    pub(super) fn lacks_length(&self) -> bool {
        let takes_body = matches!(self.method.as_str(), "POST" | "PUT" | "PATCH");
        self.header("transfer-encoding").is_some()
            || takes_body && self.header("content-length").is_none()
    }

    /// The target, without all parameters whose decoded name is `access_token`.
    pub fn target_without_token(&self) -> String {
        let Some((path, query)) = self.target.split_once('?') else {
            return self.target.clone();
        };
        let others = query
            .split('&')
            .filter(|parameter| decode_parameter(parameter).0 != "access_token")
            .collect::<Vec<_>>();
        if others.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", others.join("&"))
        }
    }

    /// The target without the scheme and host of an absolute one.
    fn origin_form(&self) -> &str {
        let Some((scheme, rest)) = self.target.split_once("://") else {
            return &self.target;
        };
        if scheme.contains('/') || scheme.contains('?') {
            return &self.target;
        }
        rest.find('/').map_or("/", |slash| &rest[slash..])
    }
}

/// Whether this is the placeholder that the sidecar gives an app instead of a token.
pub(super) fn is_placeholder(token: &str) -> bool {
    token.starts_with("sidecar-")
}

fn decode_parameter(parameter: &str) -> (String, String) {
    let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    (decode(key), decode(value))
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// A request to `/cgi-bin/token` or `/cgi-bin/stable_token`, and its result.
#[derive(Clone, Debug)]
pub struct RecordedTokenRequest {
    /// The endpoint.
    pub path: String,
    /// The AppID or corpid in it.
    pub appid: Option<String>,
    /// Whether appid and secret belong together.
    pub secret_ok: bool,
    /// Whether another token is demanded.
    pub force_refresh: bool,
    /// The errcode of the reply. `None` if it had a token, or if there was no reply.
    pub errcode: Option<i64>,
    /// The token in the reply.
    pub token: Option<String>,
    /// When it had arrived whole.
    pub at: Instant,
    /// The request itself.
    pub call: RecordedCall,
}
