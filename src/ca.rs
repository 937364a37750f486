//! The local CA: apps that call WeChat's hosts by https trust its root, and so this sidecar.
//!
//! A root signs one issuing CA, and its key is given up. The issuing CA makes the certificates that are served. Both are
//! constrained to WeChat's exact hosts: nobody who steals the key of the issuing CA can speak for any other host. It
//! takes two of them, because Java ignores the constraints of a root.

pub mod clients;
mod constraints;
pub(crate) mod der;
mod error;
mod files;
mod folder;
pub(crate) mod issue;
mod leaf;
mod subject_hash;
pub mod trust_dir;
mod truststore;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{ServerConfig, crypto::ring, pki_types::CertificateDer};

use der::{pem, validity};
pub use error::{CaError, FolderFlaw};
pub use folder::{private_folder, root_file};
use issue::IssuingCa;
use leaf::CurrentLeaf;

use crate::net::tls::ServerCertificates;

/// When the log is told that the root will expire.
const SOON: Duration = Duration::from_secs(90 * 24 * 3600);

/// The options of the local CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The folder in which it is kept; `None` to keep it in memory.
    pub dir: Option<PathBuf>,
    /// The hosts to make certificates for, in lower case.
    pub hosts: Vec<String>,
}

/// A CA that makes certificates for WeChat's hosts.
#[derive(Debug)]
pub struct Authority {
    leaf: Arc<CurrentLeaf>,
    config: Arc<ServerConfig>,
}

impl Authority {
    /// Loads the CA that is kept in the folder, or makes one. This may block.
    pub fn open(options: &Options) -> Result<Self, CaError> {
        let now = SystemTime::now();
        let ca = match &options.dir {
            Some(dir) => folder::open(dir, &options.hosts, now)?,
            None => {
                let made = issue::new_ca(&options.hosts, now)?;
                IssuingCa::new(made.root, made.issuing, made.key)?
            }
        };
        warn_of_time(&ca, now);
        let allowed = constraints::allowed(ca.issuing()).unwrap_or_default();
        let leaf = Arc::new(CurrentLeaf::new(ca, allowed, &options.hosts, now)?);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(leaf.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            leaf,
            config: Arc::new(config),
        })
    }

    /// Makes certificates for these hosts from now on, as far as the CA is allowed to.
    pub fn set_hosts(&self, hosts: &[String]) -> Result<(), CaError> {
        self.leaf.set_hosts(hosts, SystemTime::now())
    }

    /// The hosts for which it should make certificates, and is not allowed to.
    pub fn uncovered(&self) -> Vec<String> {
        self.leaf.uncovered()
    }

    /// The root, in PEM.
    pub fn certificate_pem(&self) -> String {
        pem(self.root())
    }

    /// The root.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.leaf.ca().root
    }
}

/// It always shows the current certificate. An app that asks for another host is refused, and so is one that wants HTTP/2
/// alone.
impl ServerCertificates for Authority {
    fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    fn has(&self, host: &str) -> bool {
        self.leaf.serves(host)
    }
}

/// Checks the CA that is kept in `dir`, if there is one. Nothing is made. Root may look at another user's: a command
/// of an administrator asks about a sidecar that is that user.
pub fn inspect(dir: &Path) -> Result<(), CaError> {
    match folder::load(dir, SystemTime::now()) {
        Err(CaError::Folder {
            flaw: FolderFlaw::Foreign { own: 0, .. },
            ..
        }) => Ok(()),
        loaded => loaded.map(drop),
    }
}

/// Tries whether a CA could be kept in `dir`, unless there is one. Nothing is made.
pub fn try_to_keep(dir: &Path) -> Result<(), CaError> {
    let kept = private_folder(dir).read_dir();
    match kept.is_ok_and(|mut kept| kept.next().is_some()) {
        true => Ok(()),
        false => files::try_to_write(dir),
    }
}

fn warn_of_time(ca: &IssuingCa, now: SystemTime) {
    let Some(valid) = validity(&ca.root) else {
        return;
    };
    if now < valid.start {
        tracing::warn!("the root of the local CA is not valid yet: is this machine's clock right?");
    } else if valid.end < now + SOON {
        let until = humantime::format_rfc3339_seconds(valid.end);
        tracing::warn!(%until, "the root of the local CA expires soon: remove its folder, and restart the sidecar and the apps");
    }
}
