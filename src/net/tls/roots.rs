//! The trusted roots of a client: those of the system and those in a file, which is read again when it changes.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
    server::VerifierBuilderError,
};

use super::verifier::{Trusted, Verifier};

/// The trusted roots. Clones share them. Two are equal if they come from the same file.
#[derive(Clone)]
pub struct TlsRoots(Arc<RootsState>);

pub(super) struct RootsState {
    /// The file of added roots.
    file: Option<PathBuf>,
    /// The setting that names it.
    setting: &'static str,
    /// Its content when it was last good.
    pem: Mutex<Vec<u8>>,
    config: ArcSwap<ClientConfig>,
    following: ClientConfig,
    /// The verifier of `following`.
    latest: Arc<Verifier>,
}

/// Why trusted roots cannot be loaded. The subject, 'it', is the file of added roots.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file is not PEM.
    #[error("it is not PEM")]
    NotPem,
    /// A certificate in the file is not usable as a root.
    #[error("it holds a certificate that cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
    /// The file has no certificate.
    #[error("it holds no certificate")]
    Empty,
    /// The TLS library has no protocol version in common with its own cryptography.
    #[error("TLS cannot be spoken: {0}")]
    Unsupported(#[source] rustls::Error),
    /// There is no root at all.
    #[error("no certificate can be verified: {0}")]
    NoRoots(#[from] VerifierBuilderError),
}

/// Loads the platform's roots, or Mozilla's if the platform has none, and adds those in the file `extra`.
pub fn load(extra: Option<&Path>) -> Result<TlsRoots, TlsError> {
    TlsRoots::load(extra, "upstream-ca")
}

impl TlsRoots {
    /// Loads the same for advice that tells of the key `setting`.
    pub(super) fn load(extra: Option<&Path>, setting: &'static str) -> Result<Self, TlsError> {
        let pem = extra.map(fs::read).transpose()?.unwrap_or_default();
        let trusted = Arc::new(trusted(extra.map(|_| &*pem))?);
        let latest = Arc::new(Verifier::new(trusted.clone(), setting));
        let mut following = config(latest.clone())?;
        following.resumption = Resumption::disabled();
        let current = config(Arc::new(Verifier::new(trusted, setting)))?;
        Ok(Self(Arc::new(RootsState {
            file: extra.map(Path::to_owned),
            setting,
            pem: Mutex::new(pem),
            config: ArcSwap::from_pointee(current),
            following,
            latest,
        })))
    }

    /// The configuration of a TLS connection that is opened now. Its sessions can be resumed, but not after a change
    /// of the trusted roots: rustls verifies no certificate then, and a session is bound to its verifier.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.config.load_full()
    }

    /// The configuration for a client that keeps it. It follows changes of the trusted roots, and resumes no sessions.
    pub fn following(&self) -> &ClientConfig {
        &self.0.following
    }

    /// The file of added roots.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// Reads the file again, if there is one, which may block. Returns whether it has changed. After an error, all
    /// that was trusted still is.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let state = &*self.0;
        let Some(file) = self.file() else {
            return Ok(false);
        };
        let read = fs::read(file)?;
        let mut pem = state.pem.lock().unwrap_or_else(PoisonError::into_inner);
        if *pem == read {
            return Ok(false);
        }
        let trusted = Arc::new(trusted(Some(&read))?);
        let verifier = Verifier::new(trusted.clone(), state.setting);
        state.config.store(Arc::new(config(Arc::new(verifier))?));
        state.latest.trust(trusted);
        *pem = read;
        Ok(true)
    }

    pub(super) fn state(&self) -> &Arc<RootsState> {
        &self.0
    }

    pub(super) fn of(state: Arc<RootsState>) -> Self {
        Self(state)
    }
}

fn config(verifier: Arc<Verifier>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aes_128_first()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unsupported)?;
    let builder = builder.dangerous();
    Ok(builder
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// The roots of the platform and those in `pem`.
fn trusted(pem: Option<&[u8]>) -> Result<Trusted, TlsError> {
    let (mut roots, _) = public();
    let named = pem.map(certificates).transpose()?.unwrap_or_default();
    for certificate in &named {
        roots.add(certificate.clone()).map_err(TlsError::Unusable)?;
    }
    let provider = Arc::new(aes_128_first());
    Ok(Trusted::new(roots, named, provider)?)
}

/// The roots of the platform, or Mozilla's if the platform has none, to trust and as they are.
fn public() -> (RootCertStore, Vec<CertificateDer<'static>>) {
    let mut roots = RootCertStore::empty();
    let mut found = rustls_native_certs::load_native_certs().certs;
    found.retain(|certificate| roots.add(certificate.clone()).is_ok());
    if found.is_empty() {
        found = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
        roots.add_parsable_certificates(found.iter().cloned());
    }
    (roots, found)
}

/// The certificates in `pem`. There is at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| TlsError::NotPem)?;
    match found.is_empty() {
        true => Err(TlsError::Empty),
        false => Ok(found),
    }
}

/// The certificates of the platform's roots, or of Mozilla's if the platform has none.
pub fn public_roots() -> Vec<CertificateDer<'static>> {
    public().1
}

/// A crypto provider that prefers AES-128, as browsers do. It takes a quarter less time than AES-256.
fn aes_128_first() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    provider
}

impl PartialEq for TlsRoots {
    fn eq(&self, other: &Self) -> bool {
        self.0.file == other.0.file
    }
}

impl Eq for TlsRoots {}

impl fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsRoots")
            .field("file", &self.0.file)
            .finish_non_exhaustive()
    }
}
