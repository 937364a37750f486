//! The first line of the log: what starts, for which accounts, with which hosts, and what is unusual.

use std::collections::BTreeSet;

use crate::{account::FIRST_ACCOUNTS, config::Config};

/// How many accounts and hosts are named.
const NAMED: usize = 10;

/// Logs the line.
pub fn say_start(config: &Config) {
    let (version, commit) = (crate::VERSION, crate::COMMIT);
    let accounts = match config.accounts.len() {
        many if many > FIRST_ACCOUNTS => many.to_string(),
        _ => {
            let names = config.accounts.iter().map(|account| account.names());
            listed(names.collect())
        }
    };
    let own = config
        .accounts
        .iter()
        .filter_map(|account| account.upstream.as_deref());
    let common = config
        .accounts
        .iter()
        .any(|account| account.upstream.is_none());
    let origins = own
        .chain(common.then_some(&config.connect))
        .flat_map(|connect| &connect.origins);
    let hosts: BTreeSet<String> = origins.map(|origin| origin.host.clone()).collect();
    let hosts = listed(hosts.into_iter().collect());
    let unusual = config.unusual();
    let unusual = (!unusual.is_empty()).then(|| unusual.join(", "));
    tracing::info!(
        version,
        commit,
        accounts,
        hosts,
        unusual,
        "wechat-sidecar starts"
    );
}

/// The first of `names`, and how many more there are.
fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}
