//! The main job on one screen: a fake WeChat, the sidecar, and calls like an app's while tokens expire.

use std::{error::Error, future::pending, net::SocketAddr, process::ExitCode};

use futures_util::future::join_all;
use tokio::{net::TcpListener, time::Duration};
use wechat_sidecar::{
    app::App,
    config::{Config, Sources, keys::Id},
    fake::{APPID, SECRET, Setup, Wechat},
    net::tls::TrustFiles,
};

const SEND: &str = "/cgi-bin/message/custom/send?lang=zh_CN";
const HELLO: &str = r#"{"touser":"o1","msgtype":"text","text":{"content":"hello"}}"#;
const GOOD: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

/// How many calls meet an expiry at once.
const CROWD: usize = 200;

/// The metrics that tell the story.
const TELLING: [&str; 4] = [
    "wechat_sidecar_calls_total",
    "wechat_sidecar_refusals_total",
    "wechat_sidecar_replays_total",
    "wechat_sidecar_token_fetches_total",
];

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let once = arguments == ["--once"];
    if !once && !arguments.is_empty() {
        eprintln!("Usage: demo [--once]\n\n  --once  end after the show");
        return ExitCode::from(64);
    }
    if let Err(problem) = run(once).await {
        eprintln!("  ✗ {problem}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(once: bool) -> Outcome<()> {
    let demo = Demo::start().await?;
    demo.an_ordinary_call().await?;
    demo.an_expiry().await?;
    demo.a_crowd().await?;
    demo.numbers().await?;
    if !once {
        demo.invite();
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

/// WeChat, and where the sidecar in front of it is.
struct Demo {
    wechat: Wechat,
    sidecar: String,
    admin: String,
    app: reqwest::Client,
}

impl Demo {
    async fn start() -> Outcome<Self> {
        // The process has one TLS provider; nobody has installed another before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wechat = Wechat::listen(Setup {
            listen: port(7090).await,
            refusal_chance: 0.0,
            ..Setup::default()
        });
        let wechat = wechat.await?;
        let flags = [
            (Id::Listen, port(7080).await.to_string()),
            (Id::Admin, port(7081).await.to_string()),
            (Id::Upstream, wechat.url()),
        ];
        let env = [("WECHAT_APPID", APPID), ("WECHAT_SECRET", SECRET)];
        let config = Config::load(&Sources {
            flags: flags.map(|(key, value)| (key, vec![value])).into(),
            env: env.map(|(name, value)| (name.into(), value.into())).into(),
            trust: TrustFiles::default(),
        })?;
        let app = App::bind(config, None).await?;
        let (listening, _) = app.listeners().next().ok_or("it listens nowhere")?;
        let (sidecar, admin) = (format!("http://{}", listening.address()), app.admin()?);
        tokio::spawn(app.run(pending()));

        let url = wechat.url();
        println!("your app  ──▶  sidecar, {sidecar}  ──▶  WeChat (a fake), {url}");
        Ok(Self {
            wechat,
            sidecar,
            admin: format!("http://{admin}"),
            app: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    async fn an_ordinary_call(&self) -> Outcome<()> {
        println!("\nA call: your app knows no token and no secret");
        let (reply, _) = self.send().await?;
        let calls = self.wechat.calls();
        let target = &calls.first().ok_or("WeChat saw no call")?.target;
        let token = self.wechat.token();
        let shown = target.replace(&token, &shortened(&token));
        println!("  your app sends   POST {SEND}");
        println!("  WeChat receives  POST {shown}");
        println!("  your app reads   {reply}");
        let expected = format!("{SEND}&access_token={token}");
        promise(reply == GOOD && *target == expected, "a token was put in")
    }

    async fn an_expiry(&self) -> Outcome<()> {
        println!("\nThe same call, with a token that has expired");
        self.wechat.clear();
        self.wechat.expire();
        let (reply, mark) = self.send().await?;
        let calls = self.wechat.calls();
        for call in &calls {
            let token = shortened(call.token.as_deref().unwrap_or("no token"));
            let answer = call.errcode.unwrap_or(0);
            println!("  WeChat receives  …&access_token={token} and answers errcode {answer}");
        }
        println!("  your app reads   {reply}, X-Wechat-Sidecar: {mark}");
        let healed = reply == GOOD && mark == "replayed";
        promise(healed, "your app never saw the expiry")?;
        let fetches = self.wechat.token_requests().len();
        let least = calls.len() == 2 && fetches == 1;
        promise(least, "it took two sends and one token request")
    }

    async fn a_crowd(&self) -> Outcome<()> {
        println!("\n{CROWD} calls at once, and another expiry");
        self.wechat.clear();
        self.wechat.expire();
        // Slow enough for all of them to be under way when the first is refused.
        let delay = Duration::from_millis(200);
        self.wechat.change(|wechat| wechat.reply_delay = delay);
        let replies = join_all((0..CROWD).map(|_| self.send())).await;
        self.wechat
            .change(|wechat| wechat.reply_delay = Duration::ZERO);

        let good = |(reply, _): &&(String, String)| reply == GOOD;
        let good = replies.iter().flatten().filter(good).count();
        let sends = self.wechat.calls().len();
        let fetches = self.wechat.token_requests().len();
        println!("  succeeded        {good} of {CROWD}");
        println!("  WeChat receives  {sends} calls, {fetches} token request");
        let healed = good == CROWD && sends <= 2 * CROWD;
        promise(healed, "all succeeded, and none was sent a third time")?;
        promise(fetches == 1, "one token request was enough for all")
    }

    async fn numbers(&self) -> Outcome<()> {
        println!("\nThe numbers, from {}/metrics", self.admin);
        let page = self.app.get(format!("{}/metrics", self.admin)).send();
        let page = page.await?.text().await?;
        let telling = |line: &&str| TELLING.iter().any(|name| line.starts_with(name));
        for line in page
            .lines()
            .filter(telling)
            .filter(|line| !line.ends_with(" 0"))
        {
            println!("  {line}");
        }
        let calls = format!(r#"outcome="accepted"}} {}"#, CROWD + 2);
        promise(page.contains(&calls), "every call is counted once")
    }

    fn invite(&self) {
        let (sidecar, admin, wechat) = (&self.sidecar, &self.admin, self.wechat.url());
        println!("\nStill running. Try in another terminal:");
        println!("  curl -i {sidecar}/cgi-bin/user/get");
        println!("  curl -X POST {wechat}/_fake/expire    # then the same call again");
        println!("  curl {admin}/metrics");
        println!("\nCtrl-C ends it.");
    }

    /// The reply's body, and what the sidecar says that it did.
    async fn send(&self) -> Outcome<(String, String)> {
        let call = self.app.post(format!("{}{SEND}", self.sidecar)).body(HELLO);
        let reply = call.send().await?;
        let mark = reply.headers().get("x-wechat-sidecar");
        let mark = mark.map_or(Ok(""), |mark| mark.to_str())?.to_owned();
        Ok((reply.text().await?, mark))
    }
}

/// This port, or any where it is taken.
async fn port(wanted: u16) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, 1], wanted));
    let free = TcpListener::bind(address).await.is_ok();
    SocketAddr::new(address.ip(), if free { wanted } else { 0 })
}

fn shortened(token: &str) -> String {
    format!("{}…", token.chars().take(8).collect::<String>())
}

/// Says that it was kept, or fails because it was not.
fn promise(kept: bool, what: &str) -> Outcome<()> {
    if !kept {
        return Err(format!("not so: {what}").into());
    }
    println!("  ✓ {what}");
    Ok(())
}
