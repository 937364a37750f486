//! Where a running sidecar's admin port is, even if the configuration is wrong elsewhere.
//!
//! The sidecar that is asked goes on by what it read before. So a mistake in the file, or a file that is
//! gone, must not look like a sidecar that is not well: probes would end what works.

use std::{net::SocketAddr, path::Path};

use super::{
    Sources,
    error::ConfigError,
    file, from_here,
    keys::Id,
    layers, network,
    settings::{Raw, Settings},
};
use crate::settings::parse;

/// Where a running sidecar's admin port is, as far as this machine is concerned.
#[derive(Debug)]
pub struct AdminPort {
    /// Where to ask.
    pub address: SocketAddr,
    /// What is wrong if that is a guess: the file may say something else, and cannot be understood.
    pub doubt: Option<String>,
}

impl AdminPort {
    /// By flag, environment, file or default. No other key is looked at, and the file cannot fail it.
    ///
    /// # Errors
    /// If a flag or a variable says something else than an address.
    pub fn find(sources: &Sources) -> Result<Self, ConfigError> {
        let settings = layers::without_file(sources);
        let address = network::admin(&settings)?;
        let at = |address, doubt| Self {
            address: from_here(address),
            doubt,
        };
        if settings.is_set(Id::Admin) {
            return Ok(at(address, None));
        }
        Ok(match in_file(&settings) {
            Ok(in_file) => at(in_file.unwrap_or(address), None),
            Err(error) => {
                let doubt = format!("{error}; asking {address}, the default of --admin");
                at(address, Some(doubt))
            }
        })
    }
}

fn in_file(settings: &Settings) -> Result<Option<SocketAddr>, ConfigError> {
    let Some((named, path)) = settings.text(Id::Config) else {
        return Ok(None);
    };
    let given = file::admin(Path::new(path), &named.place)?;
    given.map(|given| address(&given)).transpose()
}

/// The value is not repeated: in a file that is not TOML, whatever follows may be taken for a part of it.
fn address(given: &Raw) -> Result<SocketAddr, ConfigError> {
    let text = given.text().unwrap_or_default();
    parse::address(text).map_err(|problem| {
        let example = given.key.example;
        given.error(&format!("the value {problem}; for example {example}"))
    })
}
