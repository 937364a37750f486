//! The real binary as a process. When it ends, its whole log is searched for secrets.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    PATIENCE,
    wechat::{APPID, SECRET, Wechat},
};

/// This is longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A reply as an app reads it.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn errcode(&self) -> Option<i64> {
        self.json()["errcode"].as_i64()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The values of the sidecar's status header.
    pub fn marks(&self) -> Vec<&str> {
        let marks = self.headers.get_all("x-wechat-sidecar").iter();
        marks.map(|mark| mark.to_str().unwrap()).collect()
    }
}

/// A running sidecar. It is killed when this is dropped.
pub struct Sidecar {
    pub url: String,
    pub admin: String,
    pub client: reqwest::Client,
    child: Child,
    wechat: Option<Wechat>,
    log: Arc<Mutex<String>>,
    lines: watch::Receiver<usize>,
    readers: Vec<JoinHandle<()>>,
}

/// A client that follows no redirects and adds as few headers as possible. It drops idle connections before any of the
/// sidecar's ports does, so that no test sends on one that is just being closed.
pub fn client() -> reqwest::Client {
    // Another test of this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(Duration::from_secs(5));
    builder.timeout(LONG).build().unwrap()
}

/// The path of a temporary file of this process.
pub fn temporary(name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("wechat-sidecar-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{count}-{name}"))
}

/// Writes a temporary file with this text, and returns its path.
pub fn written(name: &str, text: &str) -> String {
    let path = temporary(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The binary, without this process's environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The binary with the account that the fake knows.
pub fn with_account() -> Command {
    let mut command = command();
    command
        .env("WECHAT_APPID", APPID)
        .env("WECHAT_SECRET", SECRET);
    command
}

impl Sidecar {
    /// A sidecar in front of `wechat` that is ready.
    pub async fn start(wechat: &Wechat) -> Self {
        Self::with(wechat, &[]).await
    }

    /// A ready sidecar with more flags.
    pub async fn with(wechat: &Wechat, flags: &[&str]) -> Self {
        let sidecar = Self::unready(wechat, flags, &[]).await;
        sidecar.until_ready().await;
        sidecar
    }

    /// A sidecar that listens, but may have no token. `environment` is set in addition to the credentials.
    pub async fn unready(wechat: &Wechat, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.args(["--log-level", "trace", "--upstream", &wechat.url()]);
        if let Some(pem) = wechat.ca_pem() {
            command.args(["--upstream-ca", &written("ca.pem", &pem)]);
        }
        if !environment
            .iter()
            .any(|(name, _)| name.starts_with("WECHAT_SECRET"))
        {
            command.env("WECHAT_SECRET", SECRET);
        }
        command
            .env("WECHAT_APPID", APPID)
            .envs(environment.iter().copied());
        command.args(flags);
        Self::spawn(command, Some(wechat.clone())).await
    }

    /// Starts `command` on ports that the system chooses, and waits until it listens.
    pub async fn spawn(command: Command, wechat: Option<Wechat>) -> Self {
        let mut sidecar = Self::begin(command, wechat);
        sidecar.until_listening().await;
        sidecar
    }

    /// Starts `command` on ports that the system chooses.
    pub fn begin(mut command: Command, wechat: Option<Wechat>) -> Self {
        let has = |flag: &str, command: &Command| {
            command.as_std().get_args().any(|argument| argument == flag)
        };
        for flag in ["--listen", "--admin"] {
            if !has(flag, &command) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (count, lines) = watch::channel(0);
        let count = Arc::new(count);
        let readers = vec![
            keep(child.stdout.take().unwrap(), log.clone(), count.clone()),
            keep(child.stderr.take().unwrap(), log.clone(), count),
        ];
        Self {
            url: String::new(),
            admin: String::new(),
            client: client(),
            child,
            wechat,
            log,
            lines,
            readers,
        }
    }

    /// Waits until it listens.
    pub async fn until_listening(&mut self) {
        self.url = format!("http://{}", self.address("listening").await);
        self.admin = format!("http://{}", self.address("admin").await);
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    async fn address(&mut self, word: &str) -> String {
        let is_json = self.line("wechat-sidecar starts").await.starts_with('{');
        let text = match is_json {
            true => format!("\"message\":\"{word}\",\"address\":\""),
            false => format!("{word} address="),
        };
        let line = self.line(&text).await;
        let (_, address) = line.split_once(&text).unwrap();
        let end = |c: char| c.is_whitespace() || c == '"';
        address.split(end).next().unwrap().to_owned()
    }

    /// Waits for a line of the log that contains `text`, and returns the first one.
    pub async fn line(&mut self, text: &str) -> String {
        let log = self.log.clone();
        let find = || {
            let log = log.lock().unwrap();
            log.lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        };
        let mut lines = self.lines.clone();
        let waiting = lines.wait_for(|_| find().is_some());
        let found = timeout(LONG, waiting)
            .await
            .is_ok_and(|found| found.is_ok());
        assert!(
            found || find().is_some(),
            "no line with {text:?}:\n{}",
            self.log()
        );
        find().unwrap()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until `/readyz` says that it is ready.
    pub async fn until_ready(&self) {
        let ready = async {
            while self.admin("/readyz").await.status != 200 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(
            timeout(LONG, ready).await.is_ok(),
            "never ready:\n{}",
            self.log()
        );
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.send(self.client.get(format!("{}{target}", self.url)))
            .await
    }

    pub async fn post(&self, target: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(self.client.post(format!("{}{target}", self.url)).body(body))
            .await
    }

    pub async fn admin(&self, target: &str) -> Reply {
        self.send(self.client.get(format!("{}{target}", self.admin)))
            .await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        self.try_send(request)
            .await
            .unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()))
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
        let reply = request.send().await?;
        Ok(Reply {
            status: reply.status().as_u16(),
            headers: reply.headers().clone(),
            body: reply.bytes().await?,
        })
    }

    /// Sends `bytes` on a new connection, and reads until the sidecar closes it.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        let mut read = Vec::new();
        // A reset after the reply also counts as an end.
        let _ = timeout(LONG, stream.read_to_end(&mut read))
            .await
            .expect("never closed");
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Connects to it.
    pub async fn connect(&self) -> TcpStream {
        let address = self.url.strip_prefix("http://").unwrap();
        TcpStream::connect(address).await.unwrap()
    }

    /// The value of the metric whose line begins with `sample`.
    pub async fn metric(&self, sample: &str) -> f64 {
        let page = self.admin("/metrics").await.text();
        let line = page.lines().find(|line| line.starts_with(sample));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until the metric whose line begins with `sample` has this value.
    pub async fn becomes(&self, sample: &str, value: f64) {
        let started = Instant::now();
        loop {
            let now = self.metric(sample).await;
            if now == value {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{sample} is {now}, not {value}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the metric whose line begins with `sample` has at least this value.
    pub async fn reaches(&self, sample: &str, value: f64) {
        let started = Instant::now();
        while self.metric(sample).await < value {
            assert!(
                started.elapsed() < PATIENCE,
                "{sample} is less than {value}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        super::signal::send(self.child.id().unwrap(), signal);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(LONG, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("never ended:\n{}", self.log.lock().unwrap()))
            .unwrap()
    }

    /// Its memory in KiB, as the kernel counts it.
    pub fn rss(&self) -> u64 {
        self.proc_status("VmRSS:")
    }

    /// The number of its threads.
    pub fn threads(&self) -> u64 {
        self.proc_status("Threads:")
    }

    /// A number that the kernel tells of its process.
    fn proc_status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn search_log(&self) {
        let log = self.log();
        assert!(!log.contains(SECRET), "the log has the secret:\n{log}");
        let tickets = self.wechat.iter().flat_map(Wechat::all_tickets);
        for token in self
            .wechat
            .iter()
            .flat_map(Wechat::all_tokens)
            .chain(tickets)
        {
            assert!(!log.contains(&token), "the log has a token:\n{log}");
        }
        assert!(!log.contains("panicked"), "a panic:\n{log}");
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
        if !std::thread::panicking() {
            self.search_log();
        }
    }
}

fn keep(
    stream: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    log: Arc<Mutex<String>>,
    count: Arc<watch::Sender<usize>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            drop(log);
            count.send_modify(|count| *count += 1);
        }
    })
}
