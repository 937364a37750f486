//! Whom the CA serves, and whom clients refuse.

use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion,
    crypto::ring,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use wechat_sidecar::net::tls::ServerCertificates;

use super::{
    Made,
    forged::{FORGERIES, serve},
    openssl,
};

/// A client that trusts the root of `made` alone.
fn client(made: &Made, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(made.authority.root().clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn connect(
    config: ClientConfig,
    host: &str,
    port: u16,
) -> Result<TlsStream<TcpStream>, Error> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(host, stream);
    connected.await.map_err(|error| {
        let error = error.into_inner().expect("an error of TLS");
        *error.downcast().expect("an error of rustls")
    })
}

#[tokio::test]
async fn each_host_of_wechat_is_served_by_both_versions_with_and_without_alpn() {
    let made = Made::new("served");
    let port = serve(made.authority.config()).await;
    for host in wechat_sidecar::wechat::hosts::WECHAT {
        assert!(made.authority.has(host));
        for (version, name) in [
            (&TLS12, ProtocolVersion::TLSv1_2),
            (&TLS13, ProtocolVersion::TLSv1_3),
        ] {
            for alpn in [&[][..], &[b"h2".to_vec(), b"http/1.1".to_vec()]] {
                let mut client = client(&made, &[version]);
                client.alpn_protocols = alpn.to_vec();
                let stream = connect(client, host, port).await.unwrap();
                let (_, connection) = stream.get_ref();
                assert_eq!(connection.protocol_version(), Some(name));
                let chosen = connection.alpn_protocol();
                assert_eq!(chosen, (!alpn.is_empty()).then_some(&b"http/1.1"[..]));
            }
        }
    }
}

#[tokio::test]
async fn another_name_is_refused_in_the_handshake_and_so_is_h2_alone() {
    let made = Made::new("refused");
    let port = serve(made.authority.config()).await;
    for host in [
        "example.com",
        "weixin.qq.com",
        "api.mch.weixin.qq.com",
        "x.api.weixin.qq.com",
    ] {
        assert!(!made.authority.has(host));
        let refused = connect(client(&made, &[&TLS13, &TLS12]), host, port).await;
        let alert = Error::AlertReceived(AlertDescription::AccessDenied);
        assert_eq!(refused.unwrap_err(), alert, "{host}");
    }
    let mut h2 = client(&made, &[&TLS13, &TLS12]);
    h2.alpn_protocols = vec![b"h2".to_vec()];
    let refused = connect(h2, "api.weixin.qq.com", port).await;
    let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(refused.unwrap_err(), alert);
}

#[tokio::test]
async fn a_client_that_names_no_host_is_served_all_the_same() {
    let made = Made::new("nameless");
    let port = serve(made.authority.config()).await;
    for host in wechat_sidecar::wechat::hosts::WECHAT {
        let mut client = client(&made, &[&TLS13, &TLS12]);
        client.enable_sni = false;
        connect(client, host, port).await.unwrap();
    }
}

#[tokio::test]
async fn rustls_refuses_what_a_thief_of_the_key_makes_for_other_hosts() {
    let made = Made::new("rustls");
    for forgery in FORGERIES {
        let port = forgery.make(&made.ca_dir()).serve().await;
        let connected = connect(client(&made, &[&TLS13, &TLS12]), forgery.host, port).await;
        match connected {
            Ok(_) => assert!(forgery.is_allowed, "{} is accepted", forgery.host),
            Err(Error::InvalidCertificate(error)) => {
                let is_expired = matches!(error, CertificateError::ExpiredContext { .. });
                assert!(
                    !forgery.is_allowed && !is_expired,
                    "{}: {error}",
                    forgery.host
                );
            }
            Err(error) => panic!("{}: {error}", forgery.host),
        }
    }
}

#[test]
#[ignore = "needs openssl"]
fn openssl_refuses_what_a_thief_of_the_key_makes_for_other_hosts() {
    let made = Made::new("openssl");
    let root = made.trusted("ca.crt");
    for (at, forgery) in FORGERIES.iter().enumerate() {
        let chain = forgery.make(&made.ca_dir()).chain;
        let files: Vec<String> = chain
            .iter()
            .zip(["leaf", "issuing"])
            .map(|(certificate, name)| {
                let file = made.dir.join(format!("{at}-{name}.der"));
                std::fs::write(&file, certificate).unwrap();
                file.display().to_string()
            })
            .collect();
        let name = match forgery.host.starts_with(char::is_numeric) {
            true => "-verify_ip",
            false => "-verify_hostname",
        };
        let mut args = vec!["verify", "-x509_strict", "-CAfile", root.to_str().unwrap()];
        args.extend(["-untrusted", &files[1], name, forgery.host, &files[0]]);
        let (accepted, text) = openssl(&args);
        assert_eq!(accepted, forgery.is_allowed, "{}: {text}", forgery.host);
        let is_about_it = text.contains("permitted subtree") || text.contains("excluded subtree");
        assert!(accepted || is_about_it, "{text}");
    }
}

#[test]
#[ignore = "needs openssl"]
fn the_chain_says_what_it_may_do() {
    let made = Made::new("chain");
    for (file, path_length) in [("ca.crt", 1), ("issuing.crt", 0)] {
        let file = made.ca_dir().join("ca").join(file);
        let (_, text) = openssl(&["x509", "-noout", "-text", "-in", file.to_str().unwrap()]);
        for words in [
            "Basic Constraints: critical",
            &format!("CA:TRUE, pathlen:{path_length}"),
            "Name Constraints: critical",
            "DNS:file.api.weixin.qq.com",
            "IP:0.0.0.0/0.0.0.0",
            "IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0",
            "Public-Key: (256 bit)",
        ] {
            assert!(text.contains(words), "{words:?} is missing in {text}");
        }
        let has_issuer = text.contains("X509v3 Authority Key Identifier");
        assert_eq!(has_issuer, path_length == 0, "{text}");
    }
}
