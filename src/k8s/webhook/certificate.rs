//! The webhook's certificate. It is loaded again when its files change, and a bad one changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::{Duration, sleep};
use x509_parser::parse_x509_certificate;

use super::error::CertificateError;
use crate::rt::file_watcher::FileWatcher;

/// How often the files are read.
const INTERVAL: Duration = Duration::from_secs(5);

/// A certificate and its key, with their files.
#[derive(Debug)]
pub(super) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    pair: ArcSwap<Pair>,
}

#[derive(Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    /// The contents of both files, to find out whether they changed.
    read: (Vec<u8>, Vec<u8>),
    expires: Option<SystemTime>,
}

impl Certificate {
    /// Loads both files.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let pair = Pair::parse(read(certificate, key)?)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            pair: ArcSwap::from_pointee(pair),
        })
    }

    /// Loads the files again whenever they change, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let files = [self.certificate.clone(), self.key.clone()];
        let mut files = FileWatcher::new(files, INTERVAL).await;
        loop {
            // Also at the start, because they may have changed since they were loaded.
            let this = self.clone();
            match files.read(move || this.reload()).await {
                Some(Ok(true)) => tracing::info!("the certificate changed"),
                Some(Ok(false)) => {}
                Some(Err(problem)) => {
                    tracing::warn!(%problem, "the certificate in use stays");
                }
                None => {
                    sleep(INTERVAL).await;
                    continue;
                }
            }
            files.changed().await;
        }
    }

    fn reload(&self) -> Result<bool, CertificateError> {
        let files = read(&self.certificate, &self.key)?;
        if files == self.pair.load().read {
            return Ok(false);
        }
        self.pair.store(Arc::new(Pair::parse(files)?));
        Ok(true)
    }

    /// Seconds until it expires; negative if it has expired.
    pub(super) fn remaining(&self) -> Option<f64> {
        let expires = self.pair.load().expires?;
        Some(match expires.duration_since(SystemTime::now()) {
            Ok(left) => left.as_secs_f64(),
            Err(past) => -past.duration().as_secs_f64(),
        })
    }

    /// The TLS configuration, which always uses the current certificate.
    pub(super) fn server(self: &Arc<Self>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair.load().key.clone())
    }
}

impl Pair {
    fn parse(read: (Vec<u8>, Vec<u8>)) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read.0)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NotPem)?;
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let expires = not_after(first);
        let key = PrivateKeyDer::from_pem_slice(&read.1).map_err(|_| CertificateError::NoKey)?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(CertificateError::Mismatch)?;
        Ok(Self {
            key: Arc::new(key),
            read,
            expires,
        })
    }
}

fn read(certificate: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
    let read = |flag, path: &Path| {
        fs::read(path).map_err(|error| CertificateError::Read {
            flag,
            path: path.to_owned(),
            error,
        })
    };
    Ok((read("--tls-cert", certificate)?, read("--tls-key", key)?))
}

/// The expiry of a certificate in DER; `None` if it cannot be parsed.
pub(super) fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    let seconds = u64::try_from(seconds).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_found() {
        for (year, midnight) in [
            // The year has two digits until 2049, and four from 2050 on.
            (1970, 6_912_000),
            (2000, 953_683_200),
            (2038, 2_152_828_800),
            (2049, 2_499_984_000),
            (2050, 2_531_520_000),
            (2096, 3_983_212_800),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(1970, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 3, 22);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let midnight = SystemTime::UNIX_EPOCH + Duration::from_secs(midnight);
            let found = not_after(certificate.der()).unwrap();
            assert_eq!(found, midnight, "{year}");
            for cut in 0..certificate.der().len() {
                assert_eq!(not_after(&certificate.der()[..cut]), None);
            }
        }
    }
}
