//! The local CA, and the folder from which apps take its root.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{Sources, error::ConfigError, keys::Id, layers, settings::Settings};
use crate::{
    account,
    ca::{self, clients, trust_dir},
    net::connector::ConnectOptions,
    wechat::{api::Api, hosts},
};

/// The local CA of a sidecar, and where it is shown to apps.
#[derive(Clone, Debug)]
pub struct LocalCa {
    /// Its options.
    pub ca: ca::Options,
    /// The folder from which apps take its root, if there is one.
    pub trust: Option<trust_dir::Options>,
}

/// Reads the keys about it, and looks at the folder that keeps it. Nothing is made.
pub(super) fn local_ca(
    settings: &Settings,
    accounts: &[account::Options],
    connect: &ConnectOptions,
) -> Result<LocalCa, ConfigError> {
    let dir = ca_dir(settings)?;
    if let Some(dir) = &dir {
        ca::inspect(dir).map_err(|error| settings.error(Id::CaDir, &error.to_string()))?;
    }
    let ca = ca::Options {
        dir,
        hosts: hosts(accounts, connect),
    };
    let also = settings.optional(Id::TrustAlso, |text| Ok::<_, &str>(PathBuf::from(text)))?;
    if let Some(file) = &also {
        let read = trust_dir::also(file);
        read.map_err(|error| settings.error(Id::TrustAlso, &error.to_string()))?;
    }
    let trust = match (trust_dir(settings)?, also) {
        (Some(dir), also) => Some(trust_dir::Options { dir, also }),
        (None, None) => None,
        (None, Some(_)) => {
            let problem = "there is no --trust-dir whose files it could be in";
            return Err(settings.error(Id::TrustAlso, problem));
        }
    };
    Ok(LocalCa { ca, trust })
}

/// WeChat's hosts, those of the accounts, and none twice. No certificate is made for an address.
fn hosts(accounts: &[account::Options], connect: &ConnectOptions) -> Vec<String> {
    let own = accounts
        .iter()
        .filter_map(|account| account.upstream.as_ref());
    let origins = own.chain([connect]).flat_map(|connect| &connect.origins);
    let private = origins.map(|origin| origin.host.trim_end_matches('.').to_ascii_lowercase());
    let is_name = |host: &str| host.contains('.') && host.parse::<IpAddr>().is_err();
    let private = private.filter(|host| is_name(host));
    let wecom = accounts.iter().any(|account| account.api == Api::Wecom);
    let wecom = wecom.then(|| hosts::WECOM.to_owned());
    let mut all: Vec<String> = hosts::WECHAT.map(str::to_owned).to_vec();
    for host in wecom.into_iter().chain(private) {
        if !all.contains(&host) {
            all.push(host);
        }
    }
    all
}

/// The folder that keeps the CA. A relative path would be another folder in another working directory.
fn ca_dir(settings: &Settings) -> Result<Option<PathBuf>, ConfigError> {
    settings.optional(Id::CaDir, |text| {
        let dir = PathBuf::from(text);
        dir.is_absolute()
            .then_some(dir)
            .ok_or("is not an absolute path")
    })
}

fn trust_dir(settings: &Settings) -> Result<Option<PathBuf>, ConfigError> {
    settings.optional(Id::TrustDir, |text| {
        // Without a slash at its end, or two in a row.
        clients::check_path(text).map(|()| Path::new(text).components().collect())
    })
}

/// Where the root of the local CA is, whatever the rest of the configuration says.
#[derive(Debug)]
pub struct RootPlaces {
    /// The folder from which apps take it.
    pub trust_dir: Option<PathBuf>,
    /// The folder in which the CA is kept.
    pub ca_dir: Option<PathBuf>,
}

impl RootPlaces {
    /// Finds them in flags, the environment and the file. Accounts and other keys are not parsed.
    ///
    /// # Errors
    /// If one of them is wrong, or the file cannot be parsed.
    pub fn find(sources: &Sources) -> Result<Self, ConfigError> {
        let settings = layers::gather(sources)?.settings;
        Ok(Self {
            trust_dir: trust_dir(&settings)?,
            ca_dir: ca_dir(&settings)?,
        })
    }
}
