//! Trusted root certificates. Certificates of servers are always verified.

use std::{fmt, fs, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};

/// The trusted roots. Two are equal if the same roots were added.
#[derive(Clone)]
pub struct TlsRoots {
    /// The added roots, as PEM.
    extra: Arc<[u8]>,
    config: Arc<ClientConfig>,
}

impl TlsRoots {
    /// The configuration of TLS connections.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl PartialEq for TlsRoots {
    fn eq(&self, other: &Self) -> bool {
        self.extra == other.extra
    }
}

impl Eq for TlsRoots {}

impl fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsRoots").finish_non_exhaustive()
    }
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
}

/// Loads the platform's roots, or Mozilla's if the platform has none, and adds those in the file `extra`.
pub fn load(extra: Option<&Path>) -> Result<TlsRoots, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (found, _) = roots.add_parsable_certificates(native.certs);
    if found == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let mut pem = Vec::new();
    if let Some(path) = extra {
        pem = fs::read(path)?;
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| TlsError::NotPem)?;
            roots.add(certificate).map_err(TlsError::Unusable)?;
            added += 1;
        }
        if added == 0 {
            return Err(TlsError::Empty);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aes_128_first()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unsupported)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsRoots {
        extra: pem.into(),
        config: Arc::new(config),
    })
}

/// A crypto provider that prefers AES-128, as browsers do. It takes a quarter less time than AES-256.
fn aes_128_first() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    provider
}
