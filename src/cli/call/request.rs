//! Sends the call.

use std::collections::VecDeque;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{
    body::OutgoingBody,
    command::{CallOptions, Payload},
    input::{InputError, Piece},
    multipart::Multipart,
    reply::PrintError,
    route::Route,
};
use crate::{
    client::api::{ApiResponse, Client, ClientError, Error},
    config::from_here,
    net::listen_addr::{LOCALHOST, ListenAddr},
    proxy::guard::{APPID, KEY},
};

/// Why a call has no reply, or not the whole of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("the caller key cannot be sent: it is no header's value")]
    Key,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("nobody takes calls at {0}: {1}")]
    Unreachable(ListenAddr, String),
    #[error(transparent)]
    Exchange(Error),
    #[error(transparent)]
    Reply(#[from] PrintError),
}

/// Sends the call, and returns the reply's head.
pub(super) async fn send(call: CallOptions, route: &Route) -> Result<ApiResponse, ExchangeError> {
    let headers = headers(&call, route)?;
    let (media_type, pieces) = match call.payload {
        Payload::Nothing => (None, None),
        Payload::Data(input) => {
            let piece = input.open()?;
            let media_type = match piece.first_letter() {
                Some(b'{' | b'[') => "application/json",
                _ => "application/x-www-form-urlencoded",
            };
            (Some(media_type.to_owned()), Some([piece].into()))
        }
        Payload::Form(fields) => {
            let Multipart { media_type, pieces } = Multipart::open(fields)?;
            (Some(media_type), Some(pieces))
        }
    };
    let method = call.method.unwrap_or(match pieces {
        Some(_) => Method::POST,
        None => Method::GET,
    });
    let (client, base) = client(route.address())?;
    let has_length = pieces.is_some() || ![Method::GET, Method::HEAD].contains(&method);
    let mut request = client.request(method, base + call.target.as_str());
    let media_type = media_type.filter(|_| !headers.contains_key(CONTENT_TYPE));
    if let Some(value) = media_type.and_then(|text| HeaderValue::from_str(&text).ok()) {
        request = request.header(CONTENT_TYPE, value);
    }
    for (name, value) in &headers {
        request = request.header(name.clone(), value.clone());
    }
    if has_length {
        let body = OutgoingBody::new(pieces.unwrap_or_else(VecDeque::<Piece>::new));
        // WeChat answers 412 where a POST has no length.
        request = request.header(CONTENT_LENGTH, body.length().into());
        request = request.body(body);
    }
    request.send().await.map_err(|error| match error {
        Error::Connect { cause, .. } => ExchangeError::Unreachable(route.address().clone(), cause),
        error => ExchangeError::Exchange(error),
    })
}

/// The headers that the call was given, with the account and the caller's key.
fn headers(call: &CallOptions, route: &Route) -> Result<HeaderMap, ExchangeError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        headers.append(name.clone(), value.clone());
    }
    if let Some(account) = call.account.as_deref().map(HeaderValue::from_str) {
        let account = account.map_err(|_| ExchangeError::Key)?;
        headers.insert(HeaderName::from_static(APPID), account);
    }
    if let Some(key) = route.key().filter(|_| !headers.contains_key(KEY)) {
        let mut key = HeaderValue::from_str(key.expose()).map_err(|_| ExchangeError::Key)?;
        key.set_sensitive(true);
        headers.insert(HeaderName::from_static(KEY), key);
    }
    Ok(headers)
}

/// A client for `address`, and the beginning of its URLs. The sidecar accepts loopback names at any address.
fn client(address: &ListenAddr) -> Result<(Client, String), ClientError> {
    let address = match address {
        ListenAddr::Unix(path) => {
            return Ok((Client::unix(path)?, "http://localhost".to_owned()));
        }
        ListenAddr::Tcp(address) => from_here(*address),
        ListenAddr::Localhost(port) => (LOCALHOST[0], *port).into(),
    };
    let base = format!("http://localhost:{}", address.port());
    Ok((Client::localhost(address)?, base))
}
