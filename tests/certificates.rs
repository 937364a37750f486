//! Certificates: whom the sidecar trusts, from when on and until when, and what it says of the others.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};
use support::{
    APPID, PATIENCE, Sidecar,
    sidecar::{self, command, written},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_rustls::TlsAcceptor;

/// A path whose calls take no token of ours.
const CALL: &str = "/sns/userinfo?access_token=users-own-token&openid=o1";

/// A server that answers each call and each token request, and closes the connection.
struct Server {
    url: String,
    /// The certificates that it sends, and its key.
    identity: Arc<Mutex<Identity>>,
}

#[derive(Clone, PartialEq)]
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Identity {
    fn new(chain: &[&Certificate], key: &KeyPair) -> Self {
        Self {
            chain: chain.iter().map(|part| part.der().clone()).collect(),
            key: key.serialize_der(),
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = provider.key_provider.load_private_key(key).unwrap();
        // Whether the key fits is for the client to find out.
        let certified = CertifiedKey::new(self.chain.clone(), key);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Server {
    async fn with(identity: Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(identity.clone()));
        let current = shared.clone();
        tokio::spawn(async move {
            let (mut shown, mut acceptor) = (identity.clone(), identity.acceptor());
            while let Ok((stream, _)) = listener.accept().await {
                let identity = current.lock().unwrap().clone();
                if identity != shown {
                    acceptor = identity.acceptor();
                    shown = identity;
                }
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let _ = stream.read(&mut [0; 1 << 14]).await;
                    let body = r#"{"errcode":0,"access_token":"TOKEN","expires_in":7200}"#;
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                    );
                    let _ = stream.write_all((head + body).as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            url: format!("https://localhost:{port}"),
            identity: shared,
        }
    }

    fn shows(&self, identity: Identity) {
        *self.identity.lock().unwrap() = identity;
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A certificate as `openssl req -x509` makes it: it signs itself, and is marked as an authority.
fn self_signed(host: &str, key: &KeyPair, until: i32) -> Certificate {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.distinguished_name = named("self-signed").distinguished_name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(until, 1, 1);
    params.self_signed(key).unwrap()
}

/// An authority, and a certificate of its for `localhost`.
struct Authority {
    root: Certificate,
    middle: Certificate,
    leaf: Certificate,
    key: KeyPair,
}

fn authority(name: &str) -> Authority {
    let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
    let [root_key, middle_key, key] = keys;
    let mut root = named(&format!("{name} root"));
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let root = Issuer::new(root, root_key);
    let mut middle = named(&format!("{name} intermediate"));
    middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let middle_certificate = middle.signed_by(&middle_key, &root).unwrap();
    let middle = Issuer::new(middle, middle_key);
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &middle).unwrap();
    Authority {
        root: root_certificate,
        middle: middle_certificate,
        leaf,
        key,
    }
}

impl Authority {
    fn identity(&self) -> Identity {
        Identity::new(&[&self.leaf, &self.middle], &self.key)
    }
}

/// A sidecar in front of `server` that also trusts what is in the file `ca`.
async fn sidecar(server: &Server, ca: Option<&str>) -> Sidecar {
    let mut command = sidecar::with_account();
    command.args(["--upstream", &server.url]);
    if let Some(ca) = ca {
        command.args(["--upstream-ca", ca]);
    }
    Sidecar::spawn(command, None).await
}

/// Checks that neither a call nor a token request reaches the server, and that both say why.
async fn distrusts(sidecar: &Sidecar, why: &str) {
    let call = sidecar.get(CALL).await;
    assert_eq!(call.status, 502, "{}", call.text());
    let token = sidecar.get("/cgi-bin/user/get").await;
    assert_eq!(token.status, 503, "{}", token.text());
    for reply in [call, token] {
        assert!(reply.text().contains(why), "{why}: {}", reply.text());
    }
}

async fn trusts(sidecar: &Sidecar) {
    sidecar.until_ready().await;
    for path in [CALL, "/cgi-bin/user/get"] {
        let reply = sidecar.get(path).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// Waits until calls get this status.
async fn becomes(sidecar: &Sidecar, status: u16) {
    let started = Instant::now();
    loop {
        let reply = sidecar.get(CALL).await;
        if reply.status == status {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{}", reply.text());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_where_exactly_it_is_named() {
    let key = KeyPair::generate().unwrap();
    let certificate = self_signed("localhost", &key, 2090);
    let server = Server::with(Identity::new(&[&certificate], &key)).await;
    let ca = written("named.pem", &certificate.pem());
    trusts(&sidecar(&server, Some(&ca)).await).await;

    distrusts(
        &sidecar(&server, None).await,
        "is signed by itself, and is not trusted",
    )
    .await;
    // The same names and dates, and another key.
    let other = self_signed("localhost", &KeyPair::generate().unwrap(), 2090);
    let other = written("other.pem", &other.pem());
    let why = "is another one than that in the file of upstream-ca";
    distrusts(&sidecar(&server, Some(&other)).await, why).await;

    for (host, until, why) in [
        (
            "other.example",
            2090,
            "its certificate is for other.example, and not for localhost",
        ),
        (
            "localhost",
            2020,
            "its certificate expired on 2020-01-01T00:00:00Z",
        ),
    ] {
        let certificate = self_signed(host, &key, until);
        server.shows(Identity::new(&[&certificate], &key));
        let ca = written("named.pem", &certificate.pem());
        distrusts(&sidecar(&server, Some(&ca)).await, why).await;
    }
    // Who sends the certificate must have its key.
    server.shows(Identity::new(
        &[&certificate],
        &KeyPair::generate().unwrap(),
    ));
    let misled = sidecar(&server, Some(&ca)).await;
    distrusts(&misled, "its certificate cannot be used").await;
}

#[tokio::test]
async fn what_is_wrong_with_a_chain_is_said_in_a_sentence() {
    let (ours, theirs) = (authority("our"), authority("their"));
    let server = Server::with(ours.identity()).await;
    let root = written("root.pem", &ours.root.pem());
    trusts(&sidecar(&server, Some(&root)).await).await;
    let other = written("root.pem", &theirs.root.pem());
    let why = "its certificate is issued by CN=our root, which is not trusted: name the root certificate by upstream-ca";
    distrusts(&sidecar(&server, Some(&other)).await, why).await;
    server.shows(Identity::new(&[&ours.leaf], &ours.key));
    let why = "is issued by CN=our intermediate, which is not trusted, and it sends no intermediate certificate";
    distrusts(&sidecar(&server, Some(&root)).await, why).await;
    // An authority's certificate is none of a server, unless it is named itself.
    server.shows(Identity::new(&[&ours.middle], &ours.key));
    let why = "its certificate is one of an authority (CA:TRUE)";
    distrusts(&sidecar(&server, Some(&root)).await, why).await;
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_without_trust() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1 << 14]).await;
        }
    });
    let mut command = sidecar::with_account();
    command.args(["--upstream", &url]);
    let sidecar = Sidecar::spawn(command, None).await;
    distrusts(&sidecar, "it does not speak TLS").await;
}

#[tokio::test]
async fn a_file_of_roots_is_read_again_when_it_changes() {
    let (before, after) = (authority("former"), authority("next"));
    let server = Server::with(before.identity()).await;
    let file = written("roots.pem", &before.root.pem());
    let mut sidecar = sidecar(&server, Some(&file)).await;
    trusts(&sidecar).await;
    // A broken file changes nothing, and is a problem until it is mended.
    fs::write(&file, "no PEM").unwrap();
    sidecar.line("a file that has changed cannot be used").await;
    trusts(&sidecar).await;
    let problem = "wechat_sidecar_problem{account=\"\",kind=\"file_unusable\"}";
    assert_eq!(
        sidecar.metric(problem).await,
        1.0,
        "{}",
        sidecar.admin("/metrics").await.text()
    );
    // The server still has its old certificate. A session of it that could be resumed does not count.
    fs::write(&file, after.root.pem()).unwrap();
    becomes(&sidecar, 502).await;
    server.shows(after.identity());
    becomes(&sidecar, 200).await;
    sidecar.becomes(problem, 0.0).await;
    fs::remove_file(&file).unwrap();
    sidecar.becomes(problem, 1.0).await;
    assert_eq!(sidecar.get(CALL).await.status, 200);
}

#[tokio::test]
async fn an_accounts_own_file_of_roots_is_read_again_too() {
    let (before, after) = (authority("former"), authority("next"));
    let server = Server::with(after.identity()).await;
    let file = written("roots.pem", &before.root.pem());
    let account = |name: &str| {
        format!(
            "[[accounts]]\nappid = '{APPID}{name}'\nsecret = '{}'\nupstream = '{}'\nupstream_ca_file = '{file}'\n",
            support::SECRET,
            server.url
        )
    };
    let config = written("accounts.toml", &account(""));
    let mut command = command();
    command.args(["--config", &config]);
    let mut sidecar = Sidecar::spawn(command, None).await;
    assert_eq!(sidecar.get(CALL).await.status, 502);
    assert!(
        sidecar
            .get(CALL)
            .await
            .text()
            .contains("by upstream_ca_file")
    );
    // The account that comes with a reload has the same file.
    fs::write(
        &config,
        format!("{}default = true\n{}", account(""), account("2")),
    )
    .unwrap();
    sidecar.line("added=1").await;
    fs::write(&file, after.root.pem()).unwrap();
    becomes(&sidecar, 200).await;
    sidecar.until_ready().await;
    let second = format!("/{APPID}2{CALL}");
    assert_eq!(sidecar.get(&second).await.status, 200);
}
