//! The local CA, and the folder from which apps take its root.

use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
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
    accounts: &[Arc<account::Options>],
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
        (Some(dir), also) => {
            let apart = keep_apart(ca.dir.as_deref(), &dir);
            apart.map_err(|problem| settings.error(Id::TrustDir, problem))?;
            Some(trust_dir::Options { dir, also })
        }
        (None, None) => None,
        (None, Some(_)) => {
            let problem = "there is no --trust-dir whose files it could be in";
            return Err(settings.error(Id::TrustAlso, problem));
        }
    };
    Ok(LocalCa { ca, trust })
}

/// Checks that apps which mount the trust folder do not get the key, and that they can read all of it.
fn keep_apart(ca_dir: Option<&Path>, trust_dir: &Path) -> Result<(), &'static str> {
    let Some(ca_dir) = ca_dir else {
        return Ok(());
    };
    if ca_dir.starts_with(trust_dir) {
        return Err(
            "holds the folder of --ca-dir, and apps that mount it would get the key: name another one",
        );
    }
    match trust_dir.starts_with(ca::private_folder(ca_dir)) {
        true => Err("is in the part of --ca-dir that only the sidecar can read: name another one"),
        false => Ok(()),
    }
}

/// WeChat's hosts, those of the accounts, and none twice. No certificate is made for an address.
fn hosts(accounts: &[Arc<account::Options>], connect: &ConnectOptions) -> Vec<String> {
    let own = accounts
        .iter()
        .filter_map(|account| account.upstream.as_deref());
    let origins = own.chain([connect]).flat_map(|connect| &connect.origins);
    let private = origins.map(|origin| origin.host.trim_end_matches('.').to_ascii_lowercase());
    let is_name = |host: &str| host.contains('.') && host.parse::<IpAddr>().is_err();
    let private = private.filter(|host| is_name(host));
    let wecom = accounts.iter().any(|account| account.api == Api::Wecom);
    let wecom = wecom.then(|| hosts::WECOM.to_owned());
    let wechat = hosts::WECHAT.map(str::to_owned);
    let mut seen = HashSet::new();
    let all = wechat.into_iter().chain(wecom).chain(private);
    all.filter(|host| seen.insert(host.clone())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_in_no_folder_that_apps_mount_and_they_can_read_theirs() {
        let problem =
            |ca: &str, trust: &str| keep_apart(Some(Path::new(ca)), Path::new(trust)).err();
        for (ca, trust) in [("/x", "/x"), ("/x/y", "/x"), ("/x/", "/x")] {
            assert!(problem(ca, trust).is_some_and(|problem| problem.contains("the key")));
        }
        for trust in ["/x/ca", "/x/ca/trust"] {
            assert!(
                problem("/x", trust).is_some_and(|problem| problem.contains("only the sidecar"))
            );
        }
        for (ca, trust) in [
            ("/x", "/x/trust"),
            ("/x", "/x/cats"),
            ("/xy", "/x"),
            ("/a", "/b"),
        ] {
            assert_eq!(problem(ca, trust), None);
        }
    }
}
