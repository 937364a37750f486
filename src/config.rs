//! Flags, environment and file, checked, as the options of everyone above.
#![allow(missing_docs, missing_debug_implementations)]
use std::net::SocketAddr;
use tokio::time::Duration;
use crate::{account, log, proxy, server, upstream};
#[derive(Debug)]
pub struct Config {
    pub accounts: Vec<account::Options>,
    pub listen: Vec<server::Address>,
    pub admin: SocketAddr,
    pub enable_shutdown: bool,
    pub route: upstream::route::RouteOptions,
    pub upstream: upstream::Options,
    pub proxy: proxy::Options,
    pub replay_memory: usize,
    pub server: server::Options,
    pub shutdown_delay: Duration,
    pub token_wait: Duration,
    pub log: log::Options,
    pub warnings: Vec<String>,
}
