//! The small client for requests of our own: for tokens, to the cluster, to the admin port, to a trace
//! collector. The only file that
//! knows reqwest. Its errors show no URL, which may hold a secret.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use reqwest::{ClientBuilder, Proxy, RequestBuilder, Response, redirect::Policy, retry};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::time::Duration;

use super::counted_connects::CountConnects;
use crate::{
    metrics::Metrics,
    net::{connector::ConnectOptions, dns::Resolver, tls},
};

/// Sends requests. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

/// A request, while it is made.
#[derive(Debug)]
pub struct ApiRequest(RequestBuilder);

/// The head of a reply, whose body may still have to arrive.
#[derive(Debug)]
pub struct ApiResponse(Response);

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("{}", sentence(.0))]
pub struct ClientError(#[from] reqwest::Error);

/// Why there is no reply. Each is a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be sent to anybody.
    #[error("{0}")]
    Request(String),
    /// There is no connection, so nothing was sent.
    #[error("{sentence}")]
    Connect {
        /// All that is known.
        sentence: String,
        /// The system's error.
        cause: String,
    },
    /// No reply came in time.
    #[error("{0}")]
    Slow(String),
    /// The reply is no HTTP.
    #[error("{0}")]
    NotHttp(String),
    /// The exchange broke off.
    #[error("{0}")]
    Broken(String),
    /// The body is larger than allowed.
    #[error("a reply far too large")]
    TooLarge,
}

impl Client {
    /// A client that connects as calls do, and counts its connections in `metrics` as theirs are. A request may take
    /// `time_out` in all.
    pub fn as_calls(
        options: &ConnectOptions,
        time_out: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        // With a proxy, it is the proxy's name that is resolved here.
        let dns = match &options.egress {
            Some(_) => options.dns.nearby(),
            None => options.dns.clone(),
        };
        let mut builder = builder(options.tls.following())
            .dns_resolver(DnsResolver(dns))
            .connector_layer(CountConnects(metrics))
            .connect_timeout(options.connect_timeout)
            .timeout(time_out);
        if let Some(egress) = &options.egress {
            let mut proxy = Proxy::all(egress.to_string())?;
            if let Some((user, password)) = egress.credentials() {
                proxy = proxy.basic_auth(user, password);
            }
            builder = builder.proxy(proxy);
        }
        build(builder)
    }

    /// A client for servers nearby. It uses no proxy, and resolves names by `dns`. A connection may take
    /// `connect_timeout` with the look-up of its name, and a request `time_out` in all.
    pub fn near(
        tls: &ClientConfig,
        dns: Resolver,
        connect_timeout: Duration,
        time_out: Duration,
    ) -> Result<Self, ClientError> {
        let builder = builder(tls).dns_resolver(DnsResolver(dns));
        build(builder.connect_timeout(connect_timeout).timeout(time_out))
    }

    /// A client for the server at `address`, without TLS and by the name of `localhost`. A request has no time limit of its
    /// own.
    pub fn localhost(address: SocketAddr) -> Result<Self, ClientError> {
        build(builder(&trusts_nobody()).resolve("localhost", address))
    }

    /// A client for the server at the Unix socket `path`, without TLS. A request has no time limit of its own.
    pub fn unix(path: &Path) -> Result<Self, ClientError> {
        let builder = builder(&trusts_nobody());
        #[cfg(unix)]
        let builder = builder.unix_socket(path);
        // Windows has named pipes there. No configuration names one, so this only keeps calls from the network.
        #[cfg(windows)]
        let builder = builder.windows_named_pipe(path.as_os_str());
        build(builder)
    }

    /// A GET of this URL.
    pub fn get(&self, url: impl AsRef<str>) -> ApiRequest {
        self.request(Method::GET, url)
    }

    /// A POST to this URL.
    pub fn post(&self, url: impl AsRef<str>) -> ApiRequest {
        self.request(Method::POST, url)
    }

    /// A request without a body.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> ApiRequest {
        ApiRequest(self.0.request(method, url.as_ref()))
    }
}

impl ApiRequest {
    /// With one more header.
    pub fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self(self.0.header(name, value))
    }

    /// With this body.
    pub fn json(self, body: &impl Serialize) -> Self {
        Self(self.0.json(body))
    }

    /// With this body, which is sent as it comes. It must know its length.
    pub fn body<B>(self, body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = io::Error> + Send + Sync + 'static,
    {
        Self(self.0.body(reqwest::Body::wrap(body)))
    }

    /// With this body, which is protobuf.
    pub fn protobuf(self, body: Bytes) -> Self {
        let kind = HeaderValue::from_static("application/x-protobuf");
        Self(self.0.header(CONTENT_TYPE, kind).body(body))
    }

    /// Sends it, once, and returns the reply's head.
    pub async fn send(self) -> Result<ApiResponse, Error> {
        let sent = self.0.send().await;
        sent.map(ApiResponse).map_err(Error::of)
    }
}

impl ApiResponse {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The next part of its body; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.chunk().await.map_err(Error::of)
    }

    /// Its whole body of at most `limit` bytes.
    pub async fn body(mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                return Err(Error::TooLarge);
            }
        }
        Ok(body)
    }
}

impl Error {
    fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let text = sentence(&error);
        let is_parse = |cause: &&(dyn std::error::Error + 'static)| {
            let cause = cause.downcast_ref::<hyper::Error>();
            cause.is_some_and(hyper::Error::is_parse)
        };
        if error.is_builder() {
            Self::Request(text)
        } else if error.is_connect() {
            let cause = causes(&error).last().map(ToString::to_string);
            let cause = cause.unwrap_or_default();
            let sentence = text;
            Self::Connect { sentence, cause }
        } else if error.is_timeout() {
            Self::Slow(text)
        } else if causes(&error).any(|cause| is_parse(&cause)) {
            Self::NotHttp(text)
        } else {
            Self::Broken(text)
        }
    }
}

fn builder(tls: &ClientConfig) -> ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .retry(retry::never())
        .http1_only()
        .tls_backend_preconfigured(tls.clone())
        .pool_idle_timeout(Duration::from_secs(15))
        .user_agent(concat!("wechat-sidecar/", env!("CARGO_PKG_VERSION")))
}

fn build(builder: ClientBuilder) -> Result<Client, ClientError> {
    Ok(Client(builder.build()?))
}

/// For servers without TLS.
pub fn trusts_nobody() -> ClientConfig {
    ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// An error and its causes.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// An error and its causes, as one sentence.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = Vec::new();
    for cause in causes(error) {
        if let Some(reason) = tls::explain(cause) {
            texts.push(reason);
            break;
        }
        texts.push(cause.to_string());
    }
    texts.join(": ")
}

/// Resolves names as calls do.
struct DnsResolver(Resolver);

impl reqwest::dns::Resolve for DnsResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let found = resolver.resolve(name.as_str()).await?;
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Asks a server that answers so, and reads at most 10 bytes of the body.
    async fn answered(reply: &'static str) -> Result<Vec<u8>, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // Until the client has read it and hangs up.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        ask(address).await?.body(10).await
    }

    async fn ask(address: SocketAddr) -> Result<ApiResponse, Error> {
        let client = Client::localhost(address).unwrap();
        let url = format!("http://localhost:{}/?secret=HUNTER2", address.port());
        client.get(url).send().await
    }

    #[tokio::test]
    async fn an_error_says_what_happened_and_shows_no_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let refused = ask(nobody).await.unwrap_err();
        let Error::Connect { cause, .. } = &refused else {
            panic!("{refused:?}")
        };
        assert!(cause.starts_with("Connection refused"), "{cause}");
        let not_http = answered("220 mail.example ESMTP\r\n").await.unwrap_err();
        assert!(matches!(not_http, Error::NotHttp(_)), "{not_http:?}");
        let broken = answered("HTTP/1.1 200 OK\r\ncontent-le").await.unwrap_err();
        assert!(matches!(broken, Error::Broken(_)), "{broken:?}");
        let short = answered("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nabc").await;
        let short = short.unwrap_err();
        assert!(matches!(short, Error::Broken(_)), "{short:?}");
        for error in [refused, not_http, broken, short] {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("HUNTER2"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_a_limit() {
        let whole = answered("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789").await;
        assert_eq!(whole.unwrap(), b"0123456789");
        let large = answered("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n0123456789a").await;
        assert!(matches!(large.unwrap_err(), Error::TooLarge));
    }
}
