//! Requests of an operator to a running sidecar: whether it is alive, whether it is ready, and to stop.

use std::{net::SocketAddr, process::ExitCode};

use http::Method;
use tokio::time::{Duration, sleep, timeout};

use super::{
    admin_client::{AdminReply, request},
    operation::Until,
    output::say,
};

/// How often `wait` asks.
const PACE: Duration = Duration::from_millis(200);

/// Asks the sidecar at `admin` whether it is alive.
pub(super) async fn health(admin: SocketAddr) -> ExitCode {
    match request(admin, Method::GET, "/livez").await {
        Ok(AdminReply { status: 200, .. }) => done("alive"),
        Ok(reply) => failed(&format!("not alive: {}", reply.sentence())),
        Err(problem) => failed(&format!("not alive: {problem}")),
    }
}

/// Waits until the sidecar at `admin` has reached this state, for at most `limit`.
pub(super) async fn wait(admin: SocketAddr, until: Until, limit: Duration) -> ExitCode {
    let (path, word) = match until {
        Until::Started => ("/startupz", "started"),
        Until::Ready => ("/readyz", "ready"),
    };
    let mut reason = "it has not answered yet".to_owned();
    let until_then = async {
        loop {
            reason = match request(admin, Method::GET, path).await {
                Ok(AdminReply { status: 200, .. }) => return,
                Ok(reply) => reply.sentence(),
                Err(problem) => problem.to_string(),
            };
            sleep(PACE).await;
        }
    };
    match timeout(limit, until_then).await {
        Ok(()) => done(word),
        Err(_) => failed(&format!("not {word} after {limit:?}: {reason}")),
    }
}

/// Asks the sidecar at `admin` to stop.
pub(super) async fn shutdown(admin: SocketAddr) -> ExitCode {
    // Check first that this is a sidecar. To another server the request could mean something else.
    if let Err(problem) = request(admin, Method::GET, "/").await {
        return failed(&problem.to_string());
    }
    match request(admin, Method::POST, "/shutdown").await {
        Ok(reply) if (200..300).contains(&reply.status) => done("stopping"),
        Ok(AdminReply {
            status: 403 | 404, ..
        }) => failed(
            "it may not be stopped this way: start it with --enable-shutdown, and ask from the same machine",
        ),
        Ok(reply) => failed(&format!("it does not stop: {}", reply.sentence())),
        Err(problem) => failed(&problem.to_string()),
    }
}

fn done(text: &str) -> ExitCode {
    say(text);
    ExitCode::SUCCESS
}

fn failed(text: &str) -> ExitCode {
    say(text);
    ExitCode::FAILURE
}
