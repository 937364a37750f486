//! A question to a running sidecar's admin port.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Duration, timeout},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// No answer is larger.
const LARGEST: usize = 1 << 20;

/// What was answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    /// Its status and its first line.
    pub(super) fn sentence(&self) -> String {
        let line: String = self
            .body
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect();
        match line.trim() {
            "" => format!("HTTP status {}", self.status),
            line => format!("HTTP status {}, {line}", self.status),
        }
    }
}

/// Sends a request without a body. The error is a sentence.
pub(super) async fn ask(admin: SocketAddr, method: Method, path: &str) -> Result<Reply, String> {
    match timeout(PATIENCE, exchange(admin, method, path)).await {
        Ok(reply) => reply,
        Err(_) => Err(format!("no answer from {admin} within {PATIENCE:?}")),
    }
}

async fn exchange(admin: SocketAddr, method: Method, path: &str) -> Result<Reply, String> {
    let stream = TcpStream::connect(admin)
        .await
        .map_err(|error| format!("no sidecar can be reached at {admin}: {error}"))?;
    let broken = |_| format!("what answers at {admin} does not speak HTTP");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        // The admin port accepts loopback names only, whatever address it is reached at.
        .header(header::HOST, format!("localhost:{}", admin.port()))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    // Ends with the sender, at the end of this function.
    tokio::spawn(connection);
    let reply = sender.send_request(request).await.map_err(broken)?;
    let status = reply.status().as_u16();
    let body = Limited::new(reply.into_body(), LARGEST).collect().await;
    let body = body.map_err(|_| format!("the answer from {admin} broke off"))?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Reply { status, body })
}
