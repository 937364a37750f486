//! Whether the addresses can be listened on. This is for when no sidecar runs, which would have them.

use tokio::net::TcpListener;

use super::report::{Check, Finding};
use crate::{
    config::Config,
    server::{Listener, Speaks},
};

/// The addresses that a sidecar could not listen on.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let of_accounts = config.accounts.iter().flat_map(|account| &account.listen);
    let http = config.listen.iter().chain(of_accounts);
    let http = http.map(|address| (address, Speaks::Http));
    let https = config.tls_listen.iter();
    let https = https.map(|address| (address, Speaks::Https));
    for (address, speaks) in http.chain(https) {
        let bound = Listener::bind(address, speaks).await;
        let failed = bound.err().map(|error| {
            let key = speaks.key();
            let sentence = format!("{key}: {address} cannot be listened on: {error}");
            Finding::failed(Check::Ports, &address.to_string(), sentence)
        });
        findings.extend(failed);
    }
    if let Err(error) = TcpListener::bind(config.admin).await {
        let admin = config.admin;
        let sentence = format!("admin: {admin} cannot be listened on: {error}");
        findings.push(Finding::failed(Check::Ports, &admin.to_string(), sentence));
    }
    if findings.is_empty() {
        let sentence = "all addresses can be listened on";
        findings.push(Finding::ok(Check::Ports, "addresses", sentence));
    }
    findings
}
