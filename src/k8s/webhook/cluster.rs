//! The webhook's own requests to the API server: the version, and the annotations of namespaces.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
use http::{HeaderValue, header};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::error::ClusterError;
use crate::{
    client::api::{Client, trusts_nobody},
    net::{dns::Resolver, origin::Origin},
};

/// The API server, and the credentials for it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The API server; `None` outside of a cluster.
    pub server: Option<Origin>,
    /// The directory with `token` and `ca.crt`, as in every pod.
    pub service_account: PathBuf,
}

/// The state of the cluster that is known.
#[derive(Debug)]
pub(super) struct Cluster {
    options: Options,
    dns: Resolver,
    version: ArcSwapOption<(u32, u32)>,
    namespaces: Mutex<HashMap<String, (Instant, Arc<Value>)>>,
}

/// The time limit of a request. The API server itself waits for our answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The largest reply that is read.
const LARGEST: usize = 1 << 20;

/// How soon the version is requested again, if it is not known and if it is known.
const SOON: Duration = Duration::from_secs(15);
const LATER: Duration = Duration::from_secs(600);

/// How long a namespace's annotations are used.
const KEPT: Duration = Duration::from_secs(5);

/// The most namespaces that are remembered.
const MOST: usize = 1024;

impl Cluster {
    /// Nothing is known yet.
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            dns: Resolver::new(None),
            version: ArcSwapOption::empty(),
            namespaces: Mutex::default(),
        }
    }

    /// The cluster's version, major and minor, if it is known.
    pub(super) fn version(&self) -> Option<(u32, u32)> {
        self.version.load().as_deref().copied()
    }

    /// Requests the version from time to time, because clusters are upgraded.
    pub(super) async fn learn_version(&self) {
        let mut failed = None;
        loop {
            let asked = self.get("/version").await;
            let version = asked.and_then(|answer| version(&answer).ok_or(ClusterError::NoVersion));
            match version {
                Ok(version) => {
                    if self.version() != Some(version) {
                        let (major, minor) = version;
                        tracing::info!(major, minor, "the cluster's version");
                    }
                    self.version.store(Some(Arc::new(version)));
                    failed = None;
                    sleep(LATER).await;
                }
                Err(error) => {
                    let problem = error.to_string();
                    if failed.as_ref() != Some(&problem) && self.version().is_none() {
                        tracing::warn!(
                            problem,
                            "the cluster's version is not known; it is taken for 1.29 or newer"
                        );
                    }
                    failed = Some(problem);
                    sleep(SOON).await;
                }
            }
        }
    }

    /// The Namespace object called `name`, at most five seconds old.
    pub(super) async fn namespace(&self, name: &str) -> Result<Arc<Value>, ClusterError> {
        let known = |known: &Mutex<HashMap<String, (Instant, Arc<Value>)>>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = known.get(name).filter(|(asked, _)| asked.elapsed() < KEPT);
            fresh.map(|(_, namespace)| namespace.clone())
        };
        if let Some(namespace) = known(&self.namespaces) {
            return Ok(namespace);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return Err(ClusterError::NamespaceName);
        }
        let path = format!("/api/v1/namespaces/{name}");
        let namespace = self.get(&path).await;
        let namespace = namespace.map_err(|error| ClusterError::Namespace {
            name: name.to_owned(),
            error: Box::new(error),
        })?;
        let namespace = Arc::new(namespace);
        let mut known = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name.to_owned(), (Instant::now(), namespace.clone()));
        Ok(namespace)
    }

    async fn get(&self, path: &str) -> Result<Value, ClusterError> {
        let server = self.options.server.as_ref();
        let server = server.ok_or(ClusterError::NoServer)?;
        let asked = timeout(PATIENCE, self.exchange(server, path)).await;
        asked.map_err(|_| ClusterError::TimedOut(PATIENCE))?
    }

    async fn exchange(&self, server: &Origin, path: &str) -> Result<Value, ClusterError> {
        // It is read each time, like the token, because the kubelet renews both.
        let tls = match server.tls {
            true => trust(&self.options.service_account.join("ca.crt"))?,
            false => trusts_nobody(),
        };
        let client = Client::near(&tls, self.dns.clone(), PATIENCE, PATIENCE);
        let client = client.map_err(ClusterError::Client)?;
        let json = HeaderValue::from_static("application/json");
        let mut request = client.get(format!("{server}{path}"));
        request = request.header(header::ACCEPT, json);
        if let Some(bearer) = self.bearer()? {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let reply = request.send().await;
        let reply = reply.map_err(ClusterError::Request)?;
        let status = reply.status();
        let body = reply.body(LARGEST).await;
        let body = body.map_err(|_| ClusterError::BrokeOff)?;
        if !status.is_success() {
            return Err(ClusterError::Status {
                path: path.to_owned(),
                status,
            });
        }
        let answer = serde_json::from_slice(&body);
        answer.map_err(|_| ClusterError::NotJson)
    }

    /// The header with the token, if there is one.
    fn bearer(&self) -> Result<Option<HeaderValue>, ClusterError> {
        match fs::read_to_string(self.options.service_account.join("token")) {
            Ok(token) => {
                let bearer = HeaderValue::try_from(format!("Bearer {}", token.trim()));
                let mut bearer = bearer.map_err(|_| ClusterError::Token)?;
                bearer.set_sensitive(true);
                Ok(Some(bearer))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ClusterError::TokenFile(error)),
        }
    }
}

/// A TLS configuration that only trusts the cluster's own root.
fn trust(ca: &Path) -> Result<ClientConfig, ClusterError> {
    let pem = fs::read(ca).map_err(|error| ClusterError::Root {
        path: ca.to_owned(),
        error,
    })?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(ClusterError::EmptyRoot(ca.to_owned()));
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Parses major and minor of a reply to `/version`. Some clusters write `29+`.
fn version(answer: &Value) -> Option<(u32, u32)> {
    let number = |field: &str| {
        let text = answer[field].as_str()?;
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        text[..end].parse().ok()
    };
    Some((number("major")?, number("minor")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_is_two_numbers_whatever_stands_behind_them() {
        assert_eq!(
            version(&json!({ "major": "1", "minor": "28+" })),
            Some((1, 28))
        );
        assert_eq!(version(&json!({ "major": "1" })), None);
        assert_eq!(version(&json!({ "major": "v1", "minor": "30" })), None);
    }
}
