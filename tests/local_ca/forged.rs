//! Certificates that a thief of the issuing key makes, and servers that show them.

use std::{fs, path::Path, sync::Arc};

use rcgen::{CertificateParams, DnType, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A leaf, and whether clients must accept it.
#[derive(Clone, Copy)]
pub(super) struct Forgery {
    /// The host that a client calls.
    pub(super) host: &'static str,
    /// The name in the certificate.
    pub(super) name: Name,
    pub(super) is_allowed: bool,
}

/// Where a certificate names the host.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Name {
    Alternative,
    /// As old certificates did.
    CommonAlone,
}

pub(super) const FORGERIES: [Forgery; 5] = [
    forgery("api.weixin.qq.com", Name::Alternative, true),
    forgery("example.com", Name::Alternative, false),
    // It takes money.
    forgery("api.mch.weixin.qq.com", Name::Alternative, false),
    forgery("127.0.0.1", Name::Alternative, false),
    forgery("example.com", Name::CommonAlone, false),
];

const fn forgery(host: &'static str, name: Name, is_allowed: bool) -> Forgery {
    Forgery {
        host,
        name,
        is_allowed,
    }
}

/// A chain and its key.
pub(super) struct Forged {
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Forgery {
    /// Makes it with the key in the folder of a CA.
    pub(super) fn make(&self, ca_dir: &Path) -> Forged {
        let text = |file| fs::read_to_string(ca_dir.join("ca").join(file)).unwrap();
        let issuing = text("issuing.crt");
        let thief = KeyPair::from_pem(&text("issuing.key")).unwrap();
        let thief = Issuer::from_ca_cert_pem(&issuing, thief).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Some clients look at a common name, too, which must not be why they refuse an alternative one.
        params.distinguished_name.remove(DnType::CommonName);
        match self.name {
            Name::Alternative => {
                let named = CertificateParams::new([self.host.to_owned()]);
                params.subject_alt_names = named.unwrap().subject_alt_names;
            }
            Name::CommonAlone => params
                .distinguished_name
                .push(DnType::CommonName, self.host),
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &thief).unwrap();
        let issuing = CertificateDer::from_pem_slice(issuing.as_bytes()).unwrap();
        Forged {
            chain: vec![leaf.into(), issuing],
            key: key.serialize_der().into(),
        }
    }
}

impl Forged {
    /// A server that shows it and answers every call. Returns its port.
    pub(super) async fn serve(self) -> u16 {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let config = config.with_single_cert(self.chain, PrivateKeyDer::from(self.key));
        serve(Arc::new(config.unwrap())).await
    }
}

/// A server that answers every call, one a connection. Returns its port.
pub(super) async fn serve(config: Arc<ServerConfig>) -> u16 {
    let acceptor = TlsAcceptor::from(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let _ = stream.read(&mut [0; 4096]).await;
                let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                let _ = stream.write_all(reply).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}
