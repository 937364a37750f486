//! The fake's own certificate authority, and a server certificate from it.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

/// The acceptor of a TLS listener, and the root that its clients must trust.
#[allow(missing_debug_implementations)] // The acceptor has none.
pub struct Tls {
    /// What accepts TLS.
    pub acceptor: TlsAcceptor,
    /// The root, as PEM.
    pub ca_pem: String,
}

/// A new authority and a certificate for `names`, which may be host names or IP addresses.
pub fn prepare(names: &[String]) -> io::Result<Tls> {
    prepare_until(names, None)
}

/// The same, with a certificate that ends in so many days.
pub fn prepare_until(names: &[String], days: Option<u64>) -> io::Result<Tls> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name
        .push(DnType::CommonName, "fake WeChat root");
    let ca_key = KeyPair::generate().map_err(io::Error::other)?;
    let ca_pem = ca.self_signed(&ca_key).map_err(io::Error::other)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(io::Error::other)?;
    if let Some(days) = days {
        params.not_after = (SystemTime::now() + Duration::from_secs(days * 86_400)).into();
    }
    let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
        })
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        ca_pem,
    })
}
