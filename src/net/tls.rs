//! Whom to trust with a token: certificates are always verified.

use std::{fmt, fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};

/// Whom to trust; the same as another if the same roots were added.
#[derive(Clone)]
pub struct TlsRoots {
    /// PEM, as it was read.
    extra: Arc<[u8]>,
    config: Arc<ClientConfig>,
}

impl TlsRoots {
    /// What TLS connections are made with.
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
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// The platform's roots, or Mozilla's where the platform has none, and those in the file `extra`.
/// The error is a sentence.
pub fn load(extra: Option<&Path>) -> Result<TlsRoots, String> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (found, _) = roots.add_parsable_certificates(native.certs);
    if found == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let mut pem = Vec::new();
    if let Some(path) = extra {
        pem = fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| "it is not PEM".to_owned())?;
            let wrong = |error| format!("it holds a certificate that cannot be used: {error}");
            roots.add(certificate).map_err(wrong)?;
            added += 1;
        }
        if added == 0 {
            return Err("it holds no certificate".to_owned());
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(quick()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be spoken: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsRoots {
        extra: pem.into(),
        config: Arc::new(config),
    })
}

/// Cryptography that asks for AES-128 first, as browsers do: it takes a quarter less than AES-256.
fn quick() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    provider
}
