//! The real webhook with a certificate of `webhook-certs`, and a fake API server.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::{sleep, timeout},
};

#[path = "../support/signal.rs"]
#[allow(unreachable_pub)]
mod signal;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The host name by which an API server calls the webhook.
const NAME: &str = "wechat-sidecar-injector.wechat-sidecar.svc";

/// A running webhook. It is killed when this is dropped.
pub(crate) struct Webhook {
    pub(crate) child: Child,
    pub(crate) folder: PathBuf,
    pub(crate) client: reqwest::Client,
    url: String,
    address: std::net::SocketAddr,
    log: Arc<Mutex<String>>,
}

/// A reply as the API server reads it.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// Whether the reply closes the connection.
    pub(crate) closes: bool,
}

impl Reply {
    /// The `response` of an AdmissionReview.
    pub(crate) fn response(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        let review: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        review["response"].clone()
    }
}

/// The JSON patch in a response. `None` if it changes nothing.
pub(crate) fn patch(response: &Value) -> Option<Value> {
    let patch = response.get("patch")?;
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(patch.as_str().unwrap()).unwrap();
    Some(serde_json::from_slice(&patch).unwrap())
}

/// The review that an API server sends when `pod` is created in the namespace `shop`.
pub(crate) fn review(pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
            "requestResource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    })
}

/// A plain pod with these annotations.
pub(crate) fn pod(annotations: Value) -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": { "generateName": "shop-6d4cf56db6-", "annotations": annotations },
        "spec": { "containers": [{ "name": "shop", "image": "shop:1" }] },
    })
}

/// Makes a certificate with `webhook-certs` in `folder`, and returns its root.
pub(crate) fn certify(folder: &Path) -> reqwest::Certificate {
    std::fs::create_dir_all(folder).unwrap();
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"))
        .args(["webhook-certs", "--format", "values"])
        .output()
        .unwrap();
    assert!(made.status.success());
    let values: Value = serde_saphyr::from_slice(&made.stdout).unwrap();
    let values = &values["certificates"];
    assert_eq!(values["source"], "provided");
    // The files are written one after the other, as by hand.
    std::fs::write(folder.join("tls.crt"), values["cert"].as_str().unwrap()).unwrap();
    std::fs::write(folder.join("tls.key"), values["key"].as_str().unwrap()).unwrap();
    let bundle = STANDARD
        .decode(values["caBundle"].as_str().unwrap())
        .unwrap();
    std::fs::write(folder.join("ca.crt"), &bundle).unwrap();
    reqwest::Certificate::from_pem(&bundle).unwrap()
}

impl Webhook {
    /// A webhook with these flags that listens.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = format!("wechat-sidecar-webhook-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let root = certify(&folder);
        let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"));
        command.env_clear().kill_on_drop(true).stdin(Stdio::null());
        command.args(["webhook", "--listen", "127.0.0.1:0", "--tls-cert"]);
        command
            .arg(folder.join("tls.crt"))
            .arg("--tls-key")
            .arg(folder.join("tls.key"));
        command.args(flags).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
            let line = line.expect("it ended");
            if let Some((_, address)) = line.split_once("listening address=") {
                break address.trim().parse().unwrap();
            }
            log.lock().unwrap().push_str(&line);
        };
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self {
            client: client(vec![root], address),
            url: format!("https://{NAME}:{}", address.port()),
            address,
            child,
            folder,
            log,
        }
    }

    /// A client that trusts only these roots.
    pub(crate) fn trusting(&self, roots: Vec<reqwest::Certificate>) -> reqwest::Client {
        client(roots, self.address)
    }

    /// Sends a review, as an API server does.
    pub(crate) async fn ask(&self, review: &Value) -> Reply {
        self.post(review.to_string(), "application/json").await
    }

    /// Sends a review as an API server does that knows of the pod's namespace no more than that its label is neither
    /// word.
    pub(crate) async fn ask_in_unclear_namespace(&self, review: &Value) -> Reply {
        let url = format!("{}/inject/unclear-namespace?timeout=5s", self.url);
        read(self.client.post(url).json(review)).await.unwrap()
    }

    /// Posts any body.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>, kind: &str) -> Reply {
        self.try_post(body, kind).await.unwrap()
    }

    /// Posts any body. The webhook may close the connection before all is sent.
    pub(crate) async fn try_post(
        &self,
        body: impl Into<reqwest::Body>,
        kind: &str,
    ) -> reqwest::Result<Reply> {
        let request = self.client.post(format!("{}/inject?timeout=5s", self.url));
        read(request.header("content-type", kind).body(body)).await
    }

    /// Gets a page, with a new client.
    pub(crate) async fn get(&self, client: &reqwest::Client, path: &str) -> reqwest::Result<Reply> {
        read(client.get(format!("{}{path}", self.url))).await
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) async fn says(&self, text: &str) {
        let said = async {
            while !self.log().contains(text) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let said = timeout(PATIENCE, said).await;
        assert!(said.is_ok(), "it never said {text:?}:\n{}", self.log());
    }

    /// Opens a connection and sends nothing.
    pub(crate) async fn connect(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(self.address).await.unwrap()
    }

    /// A line of its memory statistics, in KiB.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find(|known| known.starts_with(line))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        signal::send(self.child.id().unwrap(), signal);
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            assert!(!self.log().contains("panicked"), "{}", self.log());
        }
    }
}

fn client(roots: Vec<reqwest::Certificate>, address: std::net::SocketAddr) -> reqwest::Client {
    // Another test of this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only(roots);
    builder
        .resolve(NAME, address)
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

async fn read(request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let reply = request.send().await?;
    let status = reply.status().as_u16();
    let closes = reply
        .headers()
        .get("connection")
        .is_some_and(|value| value == "close");
    Ok(Reply {
        closes,
        status,
        text: reply.text().await?,
    })
}

/// A fake API server. It answers some paths with JSON and all others with 403, over HTTP or TLS.
pub(crate) struct ApiServer {
    pub(crate) url: String,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
    pub(crate) answers: Arc<Mutex<HashMap<String, Value>>>,
}

impl ApiServer {
    /// An API server that has a version. With `service_account` it uses TLS, and writes its root and a token there.
    pub(crate) async fn start(minor: &str, service_account: Option<&Path>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = service_account.map(tls);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let version =
            json!({ "major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.0") });
        let server = Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            heads: Arc::default(),
            answers: Arc::new(Mutex::new(HashMap::from([(
                "/version".to_owned(),
                version,
            )]))),
        };
        let (heads, answers) = (server.heads.clone(), server.answers.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heads, answers, tls) = (heads.clone(), answers.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &heads, &answers).await,
                        Some(tls) => answer(tls.accept(stream).await?, &heads, &answers).await,
                    }
                });
            }
        });
        server
    }
}

async fn answer(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    heads: &Mutex<Vec<String>>,
    answers: &Mutex<HashMap<String, Value>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    let answer = answers.lock().unwrap().get(&path).cloned();
    let (status, body) = match answer {
        Some(answer) => ("200 OK", answer.to_string()),
        None => ("403 Forbidden", r#"{"kind":"Status"}"#.to_owned()),
    };
    let length = body.len();
    let reply = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

fn tls(service_account: &Path) -> tokio_rustls::TlsAcceptor {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::create_dir_all(service_account).unwrap();
    std::fs::write(service_account.join("ca.crt"), certificate.pem()).unwrap();
    std::fs::write(service_account.join("token"), "a-token-of-the-webhooks\n").unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into());
    tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()))
}
