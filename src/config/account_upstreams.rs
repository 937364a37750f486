//! The upstreams that accounts have of their own: WeCom, or a private deployment.

use std::{cell::OnceCell, path::Path, sync::Arc};

use super::{
    account_table::{Table, UPSTREAM, UPSTREAM_CA_FILE, UPSTREAM_PLAIN_HTTP},
    error::{ConfigError, Provenance},
};
use crate::{
    net::{
        connector::{ConnectOptions, Connector},
        origin::{self, Origin},
        tls::{TlsRoots, TrustFiles},
    },
    settings::parse,
    wechat::api::Api,
};

/// Reads the upstreams of accounts.
pub(super) struct AccountUpstreams<'a> {
    common: &'a ConnectOptions,
    trust: &'a TrustFiles,
    /// The public WeCom, which most accounts of WeCom share.
    wecom: OnceCell<Arc<ConnectOptions>>,
}

impl<'a> AccountUpstreams<'a> {
    /// Uses the options of `common` for what an account does not set.
    pub(super) fn new(common: &'a ConnectOptions, trust: &'a TrustFiles) -> Self {
        Self {
            common,
            trust,
            wecom: OnceCell::new(),
        }
    }

    /// The upstream of the account in `table`; `None` for the common one.
    pub(super) fn of(
        &self,
        table: &Table,
        api: Api,
    ) -> Result<Option<Arc<ConnectOptions>>, ConfigError> {
        let plain_http = table
            .optional(UPSTREAM_PLAIN_HTTP, parse::switch)?
            .unwrap_or(false);
        let read = |text: &str| {
            Origin::parse_private(text, plain_http).map_err(|error| format!("is refused: {error}"))
        };
        let origin = match table.optional(UPSTREAM, read)? {
            Some(origin) => origin,
            None => {
                for key in [UPSTREAM_CA_FILE, UPSTREAM_PLAIN_HTTP] {
                    if let Some(given) = table.given.get(key) {
                        return Err(
                            given.error("this account has no upstream that it could be about")
                        );
                    }
                }
                match (api, self.wecom.get(), Origin::parse(origin::WECOM)) {
                    (Api::Wecom, Some(wecom), _) => return Ok(Some(wecom.clone())),
                    (Api::Wecom, None, Ok(origin)) => origin,
                    _ => return Ok(None),
                }
            }
        };
        if plain_http
            && origin.tls
            && let Some(given) = table.given.get(UPSTREAM_PLAIN_HTTP)
        {
            return Err(given.error("upstream is https: drop this key"));
        }
        let tls = self.tls_roots(table, &origin)?;
        // Plain http stays in the network that the operator said is safe.
        let egress = self.common.egress.clone().filter(|_| origin.tls);
        let options = ConnectOptions {
            dns: self.common.dns.clone().without_address(),
            tls,
            egress,
            connect_timeout: self.common.connect_timeout,
            origins: vec![origin],
        };
        let place = place(table, UPSTREAM);
        let checked = Connector::new(options.clone());
        checked.map_err(|error| ConfigError::new(place.clone(), error.to_string()))?;
        let options = Arc::new(options);
        if !table.given.contains_key(UPSTREAM) {
            let _ = self.wecom.set(options.clone());
        }
        Ok(Some(options))
    }

    fn tls_roots(&self, table: &Table, origin: &Origin) -> Result<TlsRoots, ConfigError> {
        let Some((given, path)) = table.text(UPSTREAM_CA_FILE) else {
            return Ok(self.common.tls.clone());
        };
        if !origin.tls {
            return Err(given.error("upstream is plain http and shows no certificate"));
        }
        let tls = self.trust.load(Some(Path::new(path)), "upstream_ca_file");
        tls.map_err(|problem| given.error(&problem.to_string()))
    }
}

fn place<'a>(table: &'a Table, key: &str) -> &'a Provenance {
    let given = table.given.get(key);
    given.map_or(&table.place, |given| &given.place)
}
