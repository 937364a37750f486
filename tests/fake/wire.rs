//! The fake's connections: which bytes it accepts as HTTP, when its bytes arrive, and how connections end.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::{
    Reply, get, post, raw, request, seconds,
    wechat::{EarlyReply, HangUp, Wechat},
};

#[tokio::test]
async fn chunked_or_without_length_is_412_with_an_empty_body() {
    let wechat = Wechat::calm().await;
    let target = format!(
        "/cgi-bin/message/custom/send?access_token={}",
        wechat.token()
    );
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    let deleting = chunked.replacen("POST", "DELETE", 1);
    for request in [chunked, deleting, format!("{head}\r\n")] {
        let reply = Reply::parse(&raw(&wechat, request.as_bytes()).await);
        assert_eq!((reply.status, reply.body.len()), (412, 0));
    }
    assert_eq!(wechat.calls()[0].body, "{}");
    assert_eq!(post(&wechat, &target, &json!({})).await.errcode(), 0);
}

#[tokio::test]
async fn split_and_chunked_replies_say_the_same() {
    let wechat = Wechat::calm().await;
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let whole = get(&wechat, &target).await;
    wechat.change(|knobs| knobs.split_writes = true);
    let split = get(&wechat, &target).await;
    assert_eq!((split.head, split.body), (whole.head, whole.body));
    wechat.change(|knobs| knobs.chunked_replies = true);
    let chunked = get(&wechat, &target).await;
    assert!(chunked.head.contains("Transfer-Encoding: chunked"));
    assert!(
        chunked.body.starts_with(b"10\r\n{\"total\":2") && chunked.body.ends_with(b"0\r\n\r\n")
    );
}

#[tokio::test]
async fn it_hangs_up_where_it_is_told_and_as_often() {
    let wechat = Wechat::calm().await;
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let asked = request("GET", &target, "", b"");
    let whole = raw(&wechat, &asked).await;
    let head = whole
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap()
        + 4;
    for (hang_up, length) in [
        (HangUp::BeforeReading, 0),
        (HangUp::AfterRequest, 0),
        (HangUp::MidHead, head / 2),
        (HangUp::MidBody, head + (whole.len() - head) / 2),
    ] {
        wechat.clear();
        wechat.change(|knobs| (knobs.hang_up, knobs.hang_up_next) = (hang_up, 1));
        assert_eq!(raw(&wechat, &asked).await.len(), length, "{hang_up:?}");
        let recorded = usize::from(hang_up != HangUp::BeforeReading);
        assert_eq!(wechat.calls().len(), recorded, "{hang_up:?}");
        assert_eq!(raw(&wechat, &asked).await, whole);
    }
}

#[tokio::test]
async fn a_stalled_call_is_recorded_and_ends_with_its_caller() {
    let wechat = Wechat::calm().await;
    wechat.change(|knobs| knobs.stall = true);
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    stream
        .write_all(&request("GET", &target, "", b""))
        .await
        .unwrap();
    wechat.wait_for_calls(1).await;
    assert_eq!(wechat.connections(), 1);
    drop(stream);
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
}

#[tokio::test]
async fn idle_connections_are_closed_silently() {
    let wechat = Wechat::calm().await;
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let asked = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let mut bytes = vec![0; 4096];
    for _ in 0..2 {
        stream.write_all(asked.as_bytes()).await.unwrap();
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(Reply::parse(&bytes[..read]).head.contains("keep-alive"));
    }
    assert_eq!(wechat.accepted(), 1);
    wechat.close_idle();
    assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
    wechat.change(|knobs| knobs.close_after_reply = true);
    assert!(
        String::from_utf8(raw(&wechat, asked.as_bytes()).await)
            .unwrap()
            .contains("keep-alive")
    );
}

#[tokio::test]
async fn an_early_reply_comes_before_the_body() {
    let wechat = Wechat::calm().await;
    wechat.change(|knobs| {
        knobs.early_reply = EarlyReply::ThenRead;
        knobs.status = Some(413);
    });
    let target = format!("/cgi-bin/menu/create?access_token={}", wechat.token());
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes).await.unwrap();
    assert_eq!(Reply::parse(&bytes[..read]).status, 413);
    stream.write_all(b"{}").await.unwrap();
    wechat
        .wait_until(|wechat| wechat.calls()[0].body == "{}")
        .await;
}

#[tokio::test]
async fn a_caller_who_waits_for_100_continue_gets_it_and_so_does_one_who_did_not_ask() {
    let wechat = Wechat::calm().await;
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    let target = format!("/cgi-bin/menu/create?access_token={}", wechat.token());
    let asked = request("POST", &target, "Expect: 100-continue\r\n", b"{}");
    assert!(raw(&wechat, &asked).await.starts_with(interim));
    let plain = request("POST", &target, "", b"{}");
    assert!(raw(&wechat, &plain).await.starts_with(b"HTTP/1.1 200 OK"));
    wechat.change(|knobs| knobs.interim_100 = true);
    assert!(raw(&wechat, &plain).await.starts_with(interim));
}

#[tokio::test(start_paused = true)]
async fn replies_wait_as_long_as_they_are_told() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    wechat.change(|knobs| {
        knobs.reply_delay = seconds(5);
        knobs.delay_at.insert("/slow".to_owned(), seconds(50));
        knobs.token_delay = seconds(500);
    });
    for (target, delay) in [
        ("/cgi-bin/user/get", 5),
        ("/slow", 50),
        ("/cgi-bin/token", 500),
    ] {
        let start = Instant::now();
        get(&wechat, &format!("{target}?access_token={good}")).await;
        assert_eq!(start.elapsed().as_secs(), delay, "{target}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_recorded_and_rejected() {
    let wechat = Wechat::calm().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n";
    let wrong = [
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{{}}"),
        format!("{head}Content-Length: 2\r\n\r\n{{}}"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\n".to_owned(),
    ];
    for request in &wrong {
        let reply = raw(&wechat, request.as_bytes()).await;
        assert_eq!(Reply::parse(&reply).status, 400, "{request}");
    }
    assert_eq!(wechat.malformed().len(), wrong.len());
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_call() {
    let wechat = Wechat::calm().await;
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    drop(stream);
    wechat
        .wait_until(|wechat| wechat.cut_short().len() == 1)
        .await;
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn targets_and_heads_are_kept_byte_for_byte() {
    let wechat = Wechat::calm().await;
    let target = format!(
        "//cgi-bin/user/get?a=%20%2f&&b&a=+&access_token={}",
        wechat.token()
    );
    let asked = request("GET", &target, "x-OdD:  two\r\n", b"");
    assert_eq!(Reply::parse(&raw(&wechat, &asked).await).errcode(), 0);
    let call = wechat.calls().remove(0);
    assert_eq!((call.target.as_str(), call.head), (target.as_str(), asked));
    assert_eq!(wechat.calls()[0].path(), "/cgi-bin/user/get");
    assert_eq!(wechat.calls()[0].header("X-Odd"), Some("two"));
    let parameters = wechat.calls()[0].query();
    assert_eq!(parameters[0], ("a".to_owned(), " /".to_owned()));
    assert_eq!(
        wechat.calls()[0].target_without_token(),
        "//cgi-bin/user/get?a=%20%2f&&b&a=+"
    );
}

#[tokio::test]
async fn it_ends_when_the_last_clone_is_dropped() {
    let wechat = Wechat::calm().await;
    let addr = wechat.addr();
    let clone = wechat.clone();
    drop(wechat);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    clone.wait_until(|wechat| wechat.connections() == 1).await;
    drop(clone);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn tls_clients_that_trust_its_root_get_in_by_name() {
    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    };
    let wechat = Wechat::start_tls().await;
    let pem = wechat.ca_pem().unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for name in [
        "localhost",
        "127.0.0.1",
        "api.weixin.qq.com",
        "api2.weixin.qq.com",
    ] {
        let stream = TcpStream::connect(wechat.addr()).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let asked = request("GET", "/_fake/stats", "", b"");
        stream.write_all(&asked).await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        assert_eq!(Reply::parse(&reply).status, 200);
    }
    let stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let stranger = ServerName::try_from("example.com").unwrap();
    assert!(connector.connect(stranger, stream).await.is_err());
}
