//! The admin port of a running sidecar, even if the configuration is wrong elsewhere.
//!
//! The running sidecar still uses the configuration that it read before. So a mistake in the file, or a missing file,
//! must not look like an unhealthy sidecar: probes would end a process that works.

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

/// The address of a running sidecar's admin port.
#[derive(Debug)]
pub struct AdminPort {
    /// The address to ask.
    pub address: SocketAddr,
    /// Why this is a guess, if it is one: the file may say something else, and cannot be parsed.
    pub doubt: Option<String>,
}

impl AdminPort {
    /// Finds the address in a flag, the environment, the file or the default. Other keys are not parsed, and the file
    /// cannot cause an error.
    ///
    /// # Errors
    /// If a flag or a variable is not an address.
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

/// The value is not repeated. In a file that is not TOML, any text after it may seem to belong to it.
fn address(given: &Raw) -> Result<SocketAddr, ConfigError> {
    let text = given.text().unwrap_or_default();
    parse::address(text).map_err(|problem| {
        let example = given.key.example;
        given.error(&format!("the value {problem}; for example {example}"))
    })
}
