//! `check`: finds out what of the configuration and its surroundings works, and says what to do about the rest.
//!
//! Each part looks at one thing and returns findings. What needs the network goes on at once, and is bounded by one
//! deadline. Tokens come last, since they need to know which upstream answers and whether a sidecar runs.

mod call;
mod certificate;
mod clock;
mod configuration;
mod files;
mod limits;
mod local_ca;
mod network;
mod ports;
mod report;
mod running;
mod store;
mod token;
mod upstream;

use std::process::ExitCode;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant};

use crate::config::{Config, ConfigError};
pub use report::Check;
use report::{Finding, Report};

/// The limit for all that needs the network, except for token requests.
const LIMIT: Duration = Duration::from_secs(10);

/// How to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Request a token even if that ends the token of others.
    pub mint: bool,
    /// Print one JSON document instead of lines.
    pub json: bool,
}

/// Prints what works, and fails if something does not. A classic token is requested only with `mint`, because the
/// request ends the token of everybody else.
pub(super) async fn check(config: &Config, options: CheckOptions) -> ExitCode {
    let mut report = Report::new(options.json);
    report.extend(configuration::findings(config));
    report.extend(files::findings(config));
    report.extend(limits::findings(config));
    let upstreams = match upstream::all(config) {
        Ok(upstreams) => upstreams,
        Err(error) => {
            let failed = Finding::failed(Check::Upstream, "upstream", error.to_string());
            report.extend([failed]);
            return report.end();
        }
    };
    let deadline = Instant::now() + LIMIT;
    let looks = upstreams.iter().map(|one| one.look(config, deadline));
    let (running, network, states, store) = tokio::join!(
        running::ask(config),
        network::findings(config, deadline),
        join_all(looks),
        store::look(config, deadline),
    );
    report.extend(running.findings.clone());
    report.extend(network);
    report.extend(states.iter().flat_map(|state| state.findings.clone()));
    report.extend(upstream::clock(&states));
    report.extend(store.findings.clone());
    let tokens = token::TokenChecks {
        config,
        mint: options.mint,
        running: &running,
        store: &store,
        upstreams: &upstreams.into_iter().zip(states).collect::<Vec<_>>(),
    };
    report.extend(tokens.findings().await);
    report.end()
}

/// Prints the JSON document about a configuration that cannot be used.
pub(super) fn refuse(error: &ConfigError) {
    let mut report = Report::new(true);
    report.extend([configuration::refused(error)]);
    let _ = report.end();
}
