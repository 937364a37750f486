//! What an operator asks of a running sidecar: whether it lives, whether it is ready, to stop.

use std::{net::SocketAddr, process::ExitCode};

use http::Method;
use tokio::time::{Duration, sleep, timeout};

use super::{
    admin_client::{AdminReply, request},
    operation::Until,
    output::say,
};

/// How often a sidecar is asked whether it is ready.
const PACE: Duration = Duration::from_millis(200);

/// Whether the sidecar at `admin` lives.
pub(super) async fn health(admin: SocketAddr) -> ExitCode {
    match request(admin, Method::GET, "/livez").await {
        Ok(AdminReply { status: 200, .. }) => done("alive"),
        Ok(reply) => failed(&format!("not alive: {}", reply.sentence())),
        Err(problem) => failed(&format!("not alive: {problem}")),
    }
}

/// Waits until the sidecar at `admin` is as far as that, for at most `limit`.
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
    // To another server it could mean something, too: who is there is known first.
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
