//! Fits the numbers of connections to the limit of open files.

use crate::{config::Config, os};

/// How many files each worker has open without a connection: its runtime's.
const OF_A_WORKER: usize = 5;

/// How many files are left for all else: standard streams, the main runtime, the admin port and its connections, token
/// requests, the store, and files that are read.
const RESERVE: usize = 24;

/// Raises the limit as far as the system allows. Each connection takes a file, and the usual limit is 1,024.
pub(crate) fn raise_limit() {
    if let Err(error) = os::raise_open_file_limit() {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Lowers the numbers of connections in `config` to what the limit allows, and returns a warning if it did.
pub(crate) fn fit(config: &mut Config) -> Option<String> {
    let limit = os::open_file_limit().maximum?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let listeners = config.accounts.iter().flat_map(|account| &account.listen);
    let listeners = listeners.chain(&config.listen).count();
    let others = RESERVE + OF_A_WORKER * config.server.workers + listeners;
    let wanted = (
        config.server.max_connections,
        config.upstream.max_connections,
    );
    let (apps, upstream) = shares(limit.saturating_sub(others), wanted)?;
    config.server.max_connections = apps;
    config.upstream.max_connections = upstream;
    Some(format!(
        "the limit of open files is {limit}: --max-connections is lowered from {} to {apps}, and --max-upstream \
         from {} to {upstream}; raise the limit (ulimit -n, LimitNOFILE= or nofile)",
        wanted.0, wanted.1
    ))
}

/// The numbers of connections of apps and to WeChat for which there are `left` files, in the same proportion as
/// wanted; `None` if there are enough.
fn shares(left: usize, (apps, upstream): (usize, usize)) -> Option<(usize, usize)> {
    let all = apps.saturating_add(upstream);
    if all <= left {
        return None;
    }
    let of_upstream = left as u128 * upstream as u128 / all as u128;
    let of_upstream = usize::try_from(of_upstream).unwrap_or(left).max(1);
    Some((left.saturating_sub(of_upstream).max(1), of_upstream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_lowered_in_proportion() {
        for (left, wanted, shares_of) in [
            (5120, (4096, 1024), None),
            (5119, (4096, 1024), Some((4096, 1023))),
            (100, (4096, 1024), Some((80, 20))),
            (30, (4096, 1024), Some((24, 6))),
            (30, (10, 1000), Some((1, 29))),
            (1, (4096, 1024), Some((1, 1))),
            (0, (1, 1), Some((1, 1))),
        ] {
            assert_eq!(shares(left, wanted), shares_of, "{left} {wanted:?}");
        }
    }
}
