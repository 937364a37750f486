//! A question to a running sidecar's admin port, and to nobody else.
//!
//! Whatever answers may be another program, or a port for calls. So an answer counts only with the mark of
//! an admin port, and a question says whom it is for: a port for calls sends WeChat nothing.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Method};
use tokio::time::{Duration, timeout};

use crate::{
    admin::MARK,
    client::api::{Client, Error},
    proxy::{Mark, STATUS_HEADER, guard::FOR_ADMIN},
};

/// The time limit of a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest reply.
const LARGEST: usize = 1 << 20;

/// A reply of an admin port.
#[derive(Debug)]
pub(super) struct AdminReply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl AdminReply {
    /// Its first line.
    pub(super) fn line(&self) -> String {
        let line = self.body.lines().next().unwrap_or_default();
        line.trim().chars().take(500).collect()
    }

    /// Its status and its first line.
    pub(super) fn sentence(&self) -> String {
        let line: String = self.line().chars().take(300).collect();
        match line.trim() {
            "" => format!("HTTP status {}", self.status),
            line => format!("HTTP status {}, {line}", self.status),
        }
    }
}

/// Why there is no reply from an admin port.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The request cannot be built.
    #[error("the question cannot be asked: {0}")]
    Question(String),
    /// Nothing listens there.
    #[error("no sidecar can be reached at {0}: {1}")]
    Unreachable(SocketAddr, String),
    /// Something listens there, and does not answer.
    #[error("no answer from {0} within {PATIENCE:?}")]
    Silent(SocketAddr),
    /// It does not speak HTTP.
    #[error("what answers at {0} does not speak HTTP: it is no sidecar's admin port, see --admin")]
    NotHttp(SocketAddr),
    /// It is a port for calls.
    #[error("{0} is a sidecar's port for calls, not its admin port: see --admin")]
    Calls(SocketAddr),
    /// It is another server.
    #[error("what answers at {0} is no sidecar's admin port: see --admin")]
    Stranger(SocketAddr),
    /// The reply did not arrive, or broke off.
    #[error("the answer from {0} broke off")]
    Broken(SocketAddr),
}

/// Sends a request without a body.
pub(super) async fn request(
    admin: SocketAddr,
    method: Method,
    path: &str,
) -> Result<AdminReply, AskError> {
    let exchange = exchange(admin, method, path);
    let answer = timeout(PATIENCE, exchange).await;
    answer.unwrap_or(Err(AskError::Silent(admin)))
}

async fn exchange(admin: SocketAddr, method: Method, path: &str) -> Result<AdminReply, AskError> {
    let client = Client::localhost(admin).map_err(|error| AskError::Question(error.to_string()))?;
    // The admin port only accepts loopback names, whatever its address is.
    let url = format!("http://localhost:{}{path}", admin.port());
    let request = client.request(method, url);
    let request = request.header(STATUS_HEADER, HeaderValue::from_static(FOR_ADMIN));
    let reply = request.send().await.map_err(|error| match error {
        Error::Request(problem) => AskError::Question(problem),
        Error::Connect { cause, .. } => AskError::Unreachable(admin, cause),
        Error::NotHttp(_) => AskError::NotHttp(admin),
        Error::Slow(_) | Error::Broken(_) | Error::TooLarge => AskError::Broken(admin),
    })?;
    recognise(reply.headers(), admin)?;
    let status = reply.status().as_u16();
    let body = reply.body(LARGEST).await;
    let body = body.map_err(|_| AskError::Broken(admin))?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(AdminReply { status, body })
}

/// Whether the reply comes from an admin port.
fn recognise(headers: &HeaderMap, admin: SocketAddr) -> Result<(), AskError> {
    let mut marks = headers.get_all(STATUS_HEADER).iter();
    match (marks.next(), marks.next()) {
        (Some(mark), None) if mark == MARK => Ok(()),
        (Some(mark), None) if mark == Mark::Error.word() => Err(AskError::Calls(admin)),
        _ => Err(AskError::Stranger(admin)),
    }
}
