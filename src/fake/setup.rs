//! The setup of a fake.

use std::net::SocketAddr;

use tokio::time::Duration;

use super::{APPID, CORPID, SECRET, quota::TokenQuotas};

/// Its listener, its accounts, and the lifetime of its tokens.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where it listens. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Whether it speaks TLS, with a certificate of its own.
    pub tls: bool,
    /// The host names and addresses in the certificate.
    pub tls_names: Vec<String>,
    /// In how many days the certificate ends; `None` for never.
    pub tls_days: Option<u64>,
    /// See [`Behaviour::refusal_chance`](super::Behaviour::refusal_chance).
    pub refusal_chance: f64,
    /// How long tokens live.
    pub lifetime: Duration,
    /// How long a replaced token still works, but never more than a quarter of the lifetime.
    pub overlap: Duration,
    /// How often tokens may be requested.
    pub quotas: TokenQuotas,
    /// Makes tokens and random decisions the same in every run.
    pub seed: Option<u64>,
    /// Pairs of appid and secret.
    pub accounts: Vec<(String, String)>,
    /// Whether it is WeCom. The accounts are then pairs of corpid and secret.
    pub wecom: bool,
    /// How many calls and token requests are remembered at least, where there are more.
    pub remember: usize,
    /// The prefix of all paths, as in a private deployment. Other paths are not found.
    pub prefix: String,
}

impl Setup {
    /// A WeCom with these secrets of one corp.
    pub fn wecom(secrets: &[&str]) -> Self {
        let holder = |secret: &&str| (CORPID.to_owned(), (*secret).to_owned());
        Self {
            accounts: secrets.iter().map(holder).collect(),
            wecom: true,
            ..Self::default()
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        let names = [
            "localhost",
            "127.0.0.1",
            "api.weixin.qq.com",
            "api2.weixin.qq.com",
        ];
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: false,
            tls_names: names.map(str::to_owned).to_vec(),
            tls_days: None,
            refusal_chance: 0.05,
            lifetime: Duration::from_secs(7200),
            overlap: Duration::from_secs(300),
            quotas: TokenQuotas::default(),
            seed: None,
            accounts: vec![(APPID.to_owned(), SECRET.to_owned())],
            wecom: false,
            remember: usize::MAX,
            prefix: String::new(),
        }
    }
}
