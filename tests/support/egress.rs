//! A forward proxy between the sidecar and WeChat, over CONNECT or SOCKS5.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A forward proxy.
pub struct Egress {
    pub url: String,
    /// The targets of all tunnels that were requested.
    asked: Mutex<Vec<String>>,
    /// Whether WeChat's default host cannot be connected.
    pub default_is_down: AtomicBool,
}

impl Egress {
    /// A proxy that connects every target to `wechat`, and requires this password of `user`.
    pub async fn to(wechat: SocketAddr, scheme: &str, password: Option<&'static str>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let egress = Arc::new(Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            asked: Mutex::default(),
            default_is_down: AtomicBool::new(false),
        });
        let (shared, socks) = (egress.clone(), scheme == "socks5");
        tokio::spawn(async move {
            while let Ok((app, _)) = listener.accept().await {
                let egress = shared.clone();
                tokio::spawn(async move { egress.serve(app, wechat, socks, password).await });
            }
        });
        egress
    }

    async fn serve(
        &self,
        mut app: TcpStream,
        wechat: SocketAddr,
        socks: bool,
        password: Option<&str>,
    ) -> Option<()> {
        let (target, yes) = if socks {
            let target = socks5(&mut app, password).await?;
            (target, &b"\x05\0\0\x01\0\0\0\0\0\0"[..])
        } else {
            let target = connect(&mut app, password).await?;
            (target, &b"HTTP/1.1 200 Established\r\nX: y\r\n\r\n"[..])
        };
        self.asked.lock().unwrap().push(target.clone());
        if target.starts_with("api.") && self.default_is_down.load(Ordering::Relaxed) {
            let refusal = b"HTTP/1.1 502 Bad Gateway\r\n\r\n";
            return app.write_all(refusal).await.ok();
        }
        app.write_all(yes).await.ok()?;
        let mut wechat = TcpStream::connect(wechat).await.ok()?;
        copy_bidirectional(&mut app, &mut wechat)
            .await
            .ok()
            .map(drop)
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn connect(app: &mut TcpStream, password: Option<&str>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(app.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    if password.is_some_and(|password| !tells(&head, password)) {
        app.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        )
        .await
        .ok()?;
        return None;
    }
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    assert!(
        !head.contains("access_token") && !head.contains("/cgi-bin"),
        "{head}"
    );
    Some(target.to_owned())
}

async fn socks5(app: &mut TcpStream, password: Option<&str>) -> Option<String> {
    let mut greeting = vec![0; 2];
    app.read_exact(&mut greeting).await.ok()?;
    let mut methods = vec![0; greeting[1].into()];
    app.read_exact(&mut methods).await.ok()?;
    if let Some(password) = password {
        assert!(methods.contains(&2), "{methods:?}");
        app.write_all(&[5, 2]).await.ok()?;
        let (_version, user) = (app.read_u8().await.ok()?, field(app).await?);
        let right = user == "user" && field(app).await? == password;
        app.write_all(&[1, u8::from(!right)]).await.ok()?;
        if !right {
            return None;
        }
    } else {
        app.write_all(&[5, 0]).await.ok()?;
    }
    let mut request = [0; 4];
    app.read_exact(&mut request).await.ok()?;
    assert_eq!(
        request,
        [5, 1, 0, 3],
        "it asks for a name, and resolves none itself"
    );
    let name = field(app).await?;
    Some(format!("{name}:{}", app.read_u16().await.ok()?))
}

/// Reads a text that follows its length.
async fn field(app: &mut TcpStream) -> Option<String> {
    let mut text = vec![0; app.read_u8().await.ok()?.into()];
    app.read_exact(&mut text).await.ok()?;
    String::from_utf8(text).ok()
}

/// Whether `text` has the password in it, plain or encoded as for proxies.
pub fn tells(text: &str, password: &str) -> bool {
    let basic = STANDARD.encode(format!("user:{password}"));
    [
        password,
        &basic,
        &password.replace(':', "%3A").replace(' ', "%20"),
    ]
    .iter()
    .any(|form| text.contains(*form))
}
