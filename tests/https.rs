//! Apps that call https://api.weixin.qq.com reach the sidecar, which shows certificates of its own CA.
#![allow(clippy::unwrap_used)]

mod support;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use support::{PATIENCE, Sidecar, Wechat, sidecar::temporary};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const HOST: &str = "api.weixin.qq.com";
const GET: &str = "/cgi-bin/user/get";
const SEND: &str = "/cgi-bin/user/info/updateremark";

/// After this time, a connection without a call is parked.
const A_REST: Duration = Duration::from_millis(600);

/// A sidecar that speaks TLS, and its root.
struct Https {
    sidecar: Sidecar,
    port: SocketAddr,
    root: Vec<u8>,
}

impl Https {
    async fn start(wechat: &Wechat) -> Self {
        Self::with(wechat, &[]).await
    }

    async fn with(wechat: &Wechat, flags: &[&str]) -> Self {
        let trust = temporary("trust");
        let mut all = vec![
            "--tls-listen",
            "127.0.0.1:0",
            "--trust-dir",
            trust.to_str().unwrap(),
        ];
        all.extend(flags);
        let mut sidecar = Sidecar::with(wechat, &all).await;
        let line = sidecar.line("tls=true").await;
        let (_, address) = line.split_once("address=").unwrap();
        let port = address.split_whitespace().next().unwrap().parse().unwrap();
        let root = std::fs::read(trust.join("ca.crt")).unwrap();
        Self {
            sidecar,
            port,
            root,
        }
    }

    /// An app's client, which resolves every name to the sidecar.
    fn client(&self) -> reqwest::ClientBuilder {
        let root = reqwest::Certificate::from_pem(&self.root).unwrap();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        builder
            .resolve(HOST, self.port)
            .resolve("api2.weixin.qq.com", self.port)
    }

    /// The URL of `target` at `host`.
    fn url(&self, host: &str, target: &str) -> String {
        format!("https://{host}:{}{target}", self.port.port())
    }

    fn config(&self) -> ClientConfig {
        client_config(&self.root)
    }

    async fn handshake(
        &self,
        name: &str,
        config: ClientConfig,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.port).await.unwrap();
        handshake_on(socket, name, config).await
    }

    /// Waits until the status names this cause of a failed handshake.
    async fn tells(&self, cause: &str) {
        let told = async {
            loop {
                let accounts = self.sidecar.admin("/accounts").await.text();
                if accounts.contains("tls_handshake") && accounts.contains(cause) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let accounts = self.sidecar.admin("/accounts").await.text();
        assert!(timeout(PATIENCE, told).await.is_ok(), "{cause}: {accounts}");
    }
}

fn client_config(root: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

async fn handshake_on(
    socket: TcpStream,
    name: &str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    timeout(PATIENCE, connector.connect(name, socket))
        .await
        .unwrap()
}

/// Sends a head, and returns the first line of the reply.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), head: &str) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let one = async {
        loop {
            read.push(stream.read_u8().await.unwrap());
            if read.ends_with(b"\r\n\r\n") {
                break;
            }
        }
    };
    timeout(PATIENCE, one).await.unwrap();
    let text = String::from_utf8(read).unwrap();
    text.lines().next().unwrap().to_owned()
}

fn get(host: &str) -> String {
    format!("GET {GET} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn calls_over_tls_are_calls_and_an_expiry_is_healed() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    let client = https.client().build().unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for round in 0..3 {
        wechat.expire();
        let request = client.get(https.url(HOST, GET));
        assert_eq!(https.sidecar.send(request).await.status, 200, "{round}");
        for body in [Vec::new(), b"{\"touser\":\"o1\"}".to_vec(), large.clone()] {
            wechat.clear();
            let request = client
                .post(https.url("api2.weixin.qq.com", SEND))
                .body(body.clone());
            let reply = https.sidecar.send(request).await;
            assert_eq!((reply.status, reply.errcode()), (200, Some(0)), "{round}");
            assert!(wechat.calls().iter().all(|call| call.body == body));
        }
    }
}

#[tokio::test]
async fn a_large_reply_arrives_whole_at_an_app_that_reads_slowly() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    let large: Vec<u8> = (0..8_000_000_u32).map(|at| (at % 251) as u8).collect();
    let reply = large.clone();
    wechat.change(move |behaviour| behaviour.body = Some(("image/jpeg".to_owned(), reply.into())));
    let mut stream = https.handshake(HOST, https.config()).await.unwrap();
    let head = format!("GET /cgi-bin/media/get?media_id=x HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert!(ask(&mut stream, &head).await.contains("200"));
    let mut read = Vec::new();
    while read.len() < large.len() {
        let mut some = vec![0; 100_000];
        let count = timeout(PATIENCE, stream.read(&mut some))
            .await
            .unwrap()
            .unwrap();
        read.extend_from_slice(&some[..count]);
        if read.len() % 7 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(read == large);
    // The connection carries the next call.
    assert!(ask(&mut stream, &get(HOST)).await.contains("200"));
}

#[tokio::test]
async fn a_connection_that_rests_carries_the_next_call_and_the_end_is_told() {
    let wechat = Wechat::calm().await;
    let mut https = Https::start(&wechat).await;
    let mut stream = https.handshake(HOST, https.config()).await.unwrap();
    for _ in 0..3 {
        let mut whole = String::new();
        assert!(ask(&mut stream, &get(HOST)).await.contains("200"));
        let body = timeout(A_REST, stream.read_to_string(&mut whole)).await;
        assert!(body.is_err(), "it stays open");
    }
    https.sidecar.signal("-TERM");
    let mut rest = Vec::new();
    // Without close_notify this would be an error.
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(https.sidecar.ended().await.success());
}

#[tokio::test]
async fn an_app_that_says_that_it_is_done_is_told_the_same() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    for rest in [Duration::ZERO, A_REST] {
        let mut stream = https.handshake(HOST, https.config()).await.unwrap();
        whole_reply(&mut stream).await;
        sleep(rest).await;
        stream.shutdown().await.unwrap();
        // Without close_notify this would be an error.
        assert_eq!(
            timeout(PATIENCE, stream.read(&mut [0]))
                .await
                .unwrap()
                .unwrap(),
            0
        );
    }
}

#[tokio::test]
async fn connections_that_are_used_or_begun_while_the_process_stops_are_nobodys_fault() {
    let wechat = Wechat::calm().await;
    let mut https = Https::start(&wechat).await;
    let mut half = TcpStream::connect(https.port).await.unwrap();
    half.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    let mut stream = https.handshake(HOST, https.config()).await.unwrap();
    whole_reply(&mut stream).await;
    https.sidecar.signal("-TERM");
    // Without close_notify this would be an error.
    assert_eq!(
        timeout(PATIENCE, stream.read(&mut [0]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    assert!(https.sidecar.ended().await.success());
    assert!(
        !https.sidecar.log().contains("tls_handshake"),
        "{}",
        https.sidecar.log()
    );
}

/// Calls once, and reads all of the reply.
async fn whole_reply(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(get(HOST).as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"}") {
        let mut some = [0; 4096];
        let count = timeout(PATIENCE, stream.read(&mut some))
            .await
            .unwrap()
            .unwrap();
        read.extend_from_slice(&some[..count]);
    }
}

#[tokio::test]
async fn a_call_whose_app_hangs_up_is_counted_as_one() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    wechat.change(|behaviour| behaviour.reply_delay = Duration::from_secs(20));
    let mut stream = https.handshake(HOST, https.config()).await.unwrap();
    stream.write_all(get(HOST).as_bytes()).await.unwrap();
    wechat.wait_for_calls(1).await;
    stream.shutdown().await.unwrap();
    drop(stream);
    let gone = "wechat_sidecar_calls_total{account=\"wx0123456789abcdef\",endpoint=\"/cgi-bin/user/get\",outcome=\"app_gone\"}";
    https.sidecar.becomes(gone, 1.0).await;
}

#[tokio::test]
async fn another_name_is_refused_in_the_handshake_and_told() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    for name in ["example.com", "api.mch.weixin.qq.com", "weixin.qq.com"] {
        let error = https.handshake(name, https.config()).await.unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
        https.tells(name).await;
    }
    let mut without = https.config();
    without.enable_sni = false;
    let mut stream = https.handshake(HOST, without).await.unwrap();
    assert!(ask(&mut stream, &get(HOST)).await.contains("200"));
}

#[tokio::test]
async fn an_app_that_does_not_trust_the_ca_is_told_of_with_what_to_do() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    let stranger = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let other = client_config(stranger.cert.pem().as_bytes());
    https.handshake(HOST, other).await.unwrap_err();
    https
        .tells("does not trust the sidecar's certificate")
        .await;
    https.tells("wechat-sidecar ca --for").await;
}

#[tokio::test]
async fn a_host_other_than_the_certificates_is_misdirected() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    wechat.clear();
    for (head, status) in [
        (get("api2.weixin.qq.com"), "421"),
        (get("localhost"), "421"),
        (get("api.weixin.qq.com.evil"), "421"),
        (get("api.weixin.qq.com:x"), "421"),
        (
            format!("GET https://api2.weixin.qq.com{GET} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            "421",
        ),
        (get("API.weixin.qq.com"), "200"),
        (get("api.weixin.qq.com:443"), "200"),
        (get("api.weixin.qq.com.:7443"), "200"),
        (
            format!("GET https://{HOST}{GET} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            "200",
        ),
    ] {
        let mut stream = https.handshake(HOST, https.config()).await.unwrap();
        let line = ask(&mut stream, &head).await;
        assert!(line.contains(status), "{head}: {line}");
    }
    assert_eq!(wechat.calls().len(), 4);
}

#[tokio::test]
async fn http_2_alone_is_refused_and_http_1_1_needs_no_alpn() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    let alpn = |names: &[&str]| {
        let mut config = https.config();
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let error = https.handshake(HOST, alpn(&["h2"])).await.unwrap_err();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    https.tells("HTTP/2 alone").await;
    for names in [&[][..], &["h2", "http/1.1"], &["http/1.1"]] {
        let mut stream = https.handshake(HOST, alpn(names)).await.unwrap();
        assert!(ask(&mut stream, &get(HOST)).await.contains("200"));
    }
}

#[tokio::test]
async fn an_old_version_of_tls_half_a_handshake_and_no_tls_end_as_they_should() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    // A ClientHello of TLS 1.1 with one cipher.
    let hello = [&[0x03, 0x02][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    let record = [
        &[0x16, 0x03, 0x01, 0, length + 4, 1, 0, 0, length][..],
        &hello,
    ]
    .concat();
    let mut stream = TcpStream::connect(https.port).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut alert = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut alert))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(alert.first(), Some(&0x15), "an alert: {alert:?}");
    https.tells("no version or cipher of TLS in common").await;

    let mut plain = TcpStream::connect(https.port).await.unwrap();
    plain.write_all(get(HOST).as_bytes()).await.unwrap();
    let mut reply = String::new();
    timeout(PATIENCE, plain.read_to_string(&mut reply))
        .await
        .unwrap()
        .unwrap();
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(reply.contains("call https://"), "{reply}");

    let mut half = TcpStream::connect(https.port).await.unwrap();
    half.write_all(&record[..20]).await.unwrap();
    let mut rest = Vec::new();
    // It is closed after ten seconds, with or without an alert.
    let _ = timeout(PATIENCE, half.read_to_end(&mut rest))
        .await
        .unwrap();
    https.tells("did not finish the handshake").await;
}

async fn connect(https: &Https, head: &str) -> (String, TcpStream) {
    let mut socket = https.sidecar.connect().await;
    let line = ask(&mut socket, head).await;
    (line, socket)
}

#[tokio::test]
async fn connect_begins_tls_to_a_host_of_wechats_and_to_none_else() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    for head in [
        format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Connection: keep-alive\r\n\r\n"
        ),
        format!("CONNECT {HOST}:443 HTTP/1.0\r\n\r\n"),
        format!("CONNECT {HOST}:443 HTTP/1.0\r\nHost: {HOST}:443\r\nUser-Agent: x\r\n\r\n"),
    ] {
        let (line, socket) = connect(&https, &head).await;
        assert!(line.contains(" 200"), "{head}: {line}");
        let mut stream = handshake_on(socket, HOST, https.config()).await.unwrap();
        assert!(ask(&mut stream, &get(HOST)).await.contains("200"));
        sleep(A_REST).await;
        assert!(ask(&mut stream, &get(HOST)).await.contains("200"));
        assert!(
            ask(
                &mut stream,
                "CONNECT api.weixin.qq.com:443 HTTP/1.1\r\nHost: api.weixin.qq.com:443\r\n\r\n"
            )
            .await
            .contains("403")
        );
    }
    for other in [
        "example.com:443",
        "api.weixin.qq.com:80",
        "api.mch.weixin.qq.com:443",
        "127.0.0.1:443",
        "api.weixin.qq.com:65979",
        "user@api.weixin.qq.com:443",
    ] {
        let head = format!("CONNECT {other} HTTP/1.1\r\nHost: {other}\r\n\r\n");
        let reply = https
            .sidecar
            .raw(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
            .await;
        assert!(
            reply.starts_with("HTTP/1.1 403") && reply.contains("NO_PROXY"),
            "{reply}"
        );
    }
    let plain = Sidecar::start(&wechat).await;
    let reply = plain
        .raw(format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nConnection: close\r\n\r\n"
        ))
        .await;
    assert!(
        reply.starts_with("HTTP/1.1 403") && reply.contains("--trust-dir"),
        "{reply}"
    );
}

#[tokio::test]
async fn a_client_that_sends_its_hello_right_behind_connect_is_served() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(https.config()), name).unwrap();
    let mut first = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").into_bytes();
    client.write_tls(&mut first).unwrap();
    let mut socket = https.sidecar.connect().await;
    socket.write_all(&first).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, socket.read_u8()).await.unwrap().unwrap());
    }
    let mut record = [0];
    timeout(PATIENCE, socket.read_exact(&mut record))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record, [0x16], "a handshake record");
}

#[tokio::test]
async fn tls_listens_on_no_unix_socket_and_on_no_address_twice() {
    for (flags, sentence) in [
        (["--tls-listen", "unix:/tmp/x"], "Unix socket"),
        (["--tls-listen", "127.0.0.1:7080"], "taken twice"),
        (["--tls-listen", "0.0.0.0:443"], "other machines"),
    ] {
        let output = support::sidecar::with_account()
            .arg("check")
            .args(flags)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(sentence), "{text}");
    }
    assert!(!Path::new("/tmp/x").exists());
}
