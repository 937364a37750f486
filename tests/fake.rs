//! The fake WeChat keeps WeChat's rules, and breaks where it is told to.
#![allow(clippy::unwrap_used)]

#[path = "fake/calls.rs"]
mod calls;
#[path = "fake/quotas.rs"]
mod quotas;
#[path = "fake/steering.rs"]
mod steering;
#[path = "fake/tokens.rs"]
mod tokens;
#[path = "fake/wire.rs"]
mod wire;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wechat_sidecar::fake::{self as wechat, APPID, SECRET, Wechat};

/// A parsed reply.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(raw)));
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = raw[end + 4..].to_vec();
        Self { status, head, body }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn errcode(&self) -> i64 {
        self.json()["errcode"].as_i64().unwrap_or(0)
    }

    fn is_text(&self) -> bool {
        self.head.contains("Content-Type: text/plain")
    }
}

/// Sends these bytes on a new connection, and returns all bytes that come back until it ends.
async fn raw(wechat: &Wechat, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    // A reset also counts as an end.
    let _ = stream.read_to_end(&mut reply).await;
    reply
}

fn request(method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = match (method, body.len()) {
        ("GET" | "HEAD", 0) => String::new(),
        (_, length) => format!("Content-Length: {length}\r\n"),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n{headers}{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn get(wechat: &Wechat, target: &str) -> Reply {
    Reply::parse(&raw(wechat, &request("GET", target, "", b"")).await)
}

async fn post(wechat: &Wechat, target: &str, body: &Value) -> Reply {
    let body = body.to_string();
    Reply::parse(&raw(wechat, &request("POST", target, "", body.as_bytes())).await)
}

async fn classic(wechat: &Wechat) -> Reply {
    let target =
        format!("/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={SECRET}");
    get(wechat, &target).await
}

fn credentials(force: bool) -> Value {
    json!({
        "grant_type": "client_credential",
        "appid": APPID,
        "secret": SECRET,
        "force_refresh": force,
    })
}

async fn stable(wechat: &Wechat, force: bool) -> Reply {
    post(wechat, "/cgi-bin/stable_token", &credentials(force)).await
}

fn token(reply: &Reply) -> String {
    let token = reply.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("no token in {reply:?}"))
}

/// The errcode of the reply to an API call with this token.
async fn call(wechat: &Wechat, token: &str) -> i64 {
    get(wechat, &format!("/cgi-bin/user/get?access_token={token}"))
        .await
        .errcode()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
