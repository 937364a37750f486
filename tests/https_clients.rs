//! Apps with https://api.weixin.qq.com written into them work, with nothing changed but variables that the sidecar names.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicU8, Ordering},
};

use support::{
    APPID, PATIENCE, SECRET, Sidecar, Wechat,
    sdk::{check_app, finished, installed, while_tokens_end},
    sidecar::{command, temporary, written},
    wechat::CORPID,
};
use tokio::{process::Command, sync::OnceCell, time::timeout};
use wechat_sidecar::wechat::hosts::{WECHAT, WECOM};

/// How many times an app makes all its calls.
const ROUNDS: &str = "5";

/// In a round, WeChat sees at least the list of users, a message, a picture up and down, a QR code and a login.
const CALLS: usize = 5 * 6;

/// Applies the lines of a shell that `$1` has, and becomes what follows.
const WITH_VARIABLES: &str = r#"eval "$1"; shift; exec "$@""#;

/// Before that, shows the file `$1` in place of /etc/hosts, to itself alone.
const WITH_HOSTS: &str = r#"mount --bind "$1" /etc/hosts; shift; eval "$1"; shift; exec "$@""#;

/// A sidecar on the ports 80 and 443 of an address of its own, to which WeChat's hosts lead.
struct Https {
    sidecar: Sidecar,
    flags: Vec<String>,
    trust: PathBuf,
    hosts: String,
}

impl Https {
    async fn start(wechat: &Wechat) -> Self {
        let address = an_address();
        let [trust, ca] = ["trust", "ca"].map(temporary);
        let flags = [
            ("--listen", format!("{address}:80")),
            ("--tls-listen", format!("{address}:443")),
            ("--trust-dir", trust.display().to_string()),
            ("--ca-dir", ca.display().to_string()),
        ];
        let flags: Vec<_> = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect();
        let names = WECHAT.into_iter().chain([WECOM]);
        let lines: String = names.map(|name| format!("{address} {name}\n")).collect();
        Self {
            sidecar: started(wechat, &flags).await,
            flags,
            trust,
            hosts: written("hosts", &format!("127.0.0.1 localhost\n{lines}")),
        }
    }

    /// An app on this machine, as it is, for whom WeChat's hosts lead to the sidecar.
    fn app(&self, program: &Program, variables: &str) -> Command {
        let mut app = Command::new("unshare");
        app.args(["--mount", "sh", "-euc", WITH_HOSTS, "sh"]);
        app.arg(&self.hosts).arg(variables);
        program.put(&mut app);
        app
    }

    /// The lines of a shell that `wechat-sidecar ca` prints for a language.
    async fn variables(&self, language: &str) -> String {
        variables(language, &self.trust).await
    }
}

/// A sidecar with the account that the fake knows: WeChat's, or one of WeCom.
async fn started(wechat: &Wechat, flags: &[String]) -> Sidecar {
    let url = wechat.url();
    let account = match wechat.is_wecom() {
        true => format!("kind = 'wecom'\nname = 'app'\ncorpid = '{CORPID}'"),
        false => format!("appid = '{APPID}'"),
    };
    let file = format!("[[accounts]]\n{account}\nsecret = '{SECRET}'\nupstream = '{url}'\n");
    let mut command = command();
    command.args([
        "--log-level",
        "trace",
        "--config",
        &written("account.toml", &file),
    ]);
    command.args(flags);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    sidecar
}

async fn variables(language: &str, trust: &Path) -> String {
    let mut ca = command();
    ca.args(["ca", "--for", language, "--trust-dir"]).arg(trust);
    let output = ca.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.contains("export "), "{lines}");
    lines
}

/// An address of this machine that no other test uses, so that none waits for another's ports.
fn an_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [second, third] = [64 + (high & 63), low];
    Ipv4Addr::new(127, second, third, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// An app: a program, the file that it runs, and its first words.
#[derive(Clone, Debug)]
struct Program {
    language: &'static str,
    words: Vec<PathBuf>,
    /// Where its packages are.
    packages: Option<(&'static str, PathBuf)>,
}

impl Program {
    fn new<W: Into<PathBuf>>(language: &'static str, words: impl IntoIterator<Item = W>) -> Self {
        Self {
            language,
            words: words.into_iter().map(Into::into).collect(),
            packages: None,
        }
    }

    /// Adds it to the command that prepares its surroundings. Its environment has what every login has.
    fn put(&self, command: &mut Command) {
        command.env_clear().args(&self.words);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(self.packages.iter().cloned());
    }
}

fn source(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/https_clients");
    folder.join(name)
}

fn shell(language: &'static str, name: &str) -> Program {
    Program::new(language, ["sh".into(), source(name)])
}

fn python(name: &str) -> Program {
    let python = installed("venv/bin/python");
    // -B: nothing is to be left in the source tree.
    Program::new("python", [python, "-B".into(), source(name)])
}

fn node(name: &str) -> Program {
    Program {
        packages: Some(("NODE_PATH", installed("node/node_modules"))),
        ..Program::new("node", ["node".into(), source(name)])
    }
}

fn php() -> Program {
    Program::new("php", ["php".into(), source("app.php")])
}

/// A file that a compiler makes of the app, once.
async fn compiled(program: &str, arguments: &[&str], name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("https_clients");
    fs::create_dir_all(&folder).unwrap();
    let mut compiler = Command::new(program);
    compiler
        .args(arguments)
        .current_dir(&folder)
        .arg(source(name));
    compiler.env("GOCACHE", folder.join("go-cache"));
    let output = finished(compiler).await;
    assert!(output.status.success(), "{output:?}");
    folder
}

async fn go() -> Program {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let make = || compiled("go", &["build", "-o", "app"], "app.go");
    Program::new("go", [FOLDER.get_or_init(make).await.join("app")])
}

/// Debian's packages of Apache's client.
const JARS: &str = "/usr/share/java/httpclient5.jar:/usr/share/java/httpcore5.jar:/usr/share/java/httpcore5-h2.jar:/usr/share/java/slf4j-api.jar";

async fn java() -> Program {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let make = || compiled("javac", &["-cp", JARS, "-d", "."], "App.java");
    let folder = FOLDER.get_or_init(make).await;
    let classes = format!("{}:{JARS}", folder.display());
    let words = ["java", "-XX:TieredStopAtLevel=1", "-cp", &classes, "App"];
    Program::new("java", words)
}

/// Runs an app to its end while tokens end under it, and checks that neither it nor WeChat noticed.
async fn works(program: &Program, words: &[&str]) {
    let wechat = Wechat::start().await;
    let https = Https::start(&wechat).await;
    let mut app = https.app(program, &https.variables(program.language).await);
    app.args(words).arg(ROUNDS);
    let output = while_tokens_end(&wechat, finished(app)).await;
    check(&output, &wechat, &https.sidecar).await;
}

async fn check(output: &Output, wechat: &Wechat, sidecar: &Sidecar) {
    check_app(output, CALLS, wechat, sidecar).await;
    let out = String::from_utf8_lossy(&output.stdout);
    let token = format!("its token was sidecar-{APPID}");
    assert!(out.contains(&token), "{out}");
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, curl and wget"]
async fn curl_and_wget_work_unchanged_over_https() {
    works(&shell("curl", "curl.sh"), &[]).await;
    works(&shell("wget", "wget.sh"), &[]).await;
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, and Python with httpx and aiohttp"]
async fn pythons_clients_work_unchanged_over_https() {
    for client in ["urllib", "requests", "httpx", "aiohttp"] {
        works(&python("app.py"), &[client]).await;
    }
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, and Python with wechatpy"]
async fn wechatpy_works_unchanged_over_https() {
    let first = python("wechatpy_app.py");
    works(&first, &[]).await;
    let second = Program {
        packages: Some(("PYTHONPATH", installed("wechatpy2"))),
        ..first
    };
    works(&second, &[]).await;
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, and Python with wechatpy"]
async fn wechatpys_client_of_wecom_works_unchanged_over_https() {
    let wecom = Wechat::wecom(&[SECRET]).await;
    wecom.change_wecom(|rules| rules.early_end_chance = 0.2);
    let https = Https::start(&wecom).await;
    let program = python("wechatpy_enterprise_app.py");
    let mut app = https.app(&program, &https.variables("python").await);
    app.arg("10");
    let output = finished(app).await;
    check_app(&output, 50, &wecom, &https.sidecar).await;
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("its token was sidecar-app"), "{out}");
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, and Node.js with axios and undici"]
async fn nodes_clients_work_unchanged_over_https() {
    for client in ["fetch", "https", "axios", "undici"] {
        works(&node("app.js"), &[client]).await;
    }
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, and Node.js with two SDKs"]
async fn nodes_sdks_work_unchanged_over_https() {
    works(&node("co_wechat_api_app.js"), &[]).await;
    works(&node("node_easywechat_app.js"), &[]).await;
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, and PHP with curl"]
async fn phps_clients_work_unchanged_over_https() {
    for client in ["curl", "streams"] {
        works(&php(), &[client]).await;
    }
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, and Java with Apache httpclient"]
async fn javas_clients_work_unchanged_over_https() {
    for client in ["httpclient", "urlconnection", "apache"] {
        works(&java().await, &[client]).await;
    }
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, Go, Ruby, and Perl with LWP"]
async fn go_ruby_and_perl_work_unchanged_over_https() {
    works(&go().await, &[]).await;
    works(
        &Program::new("ruby", ["ruby".into(), source("app.rb")]),
        &[],
    )
    .await;
    works(
        &Program::new("perl", ["perl".into(), source("app.pl")]),
        &[],
    )
    .await;
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, curl, Python, Node.js, Go and PHP"]
async fn without_the_variables_the_same_apps_refuse_the_certificate_unchanged_over_https() {
    let wechat = Wechat::calm().await;
    let https = Https::start(&wechat).await;
    for (program, words) in [
        (shell("curl", "curl.sh"), &[][..]),
        (python("app.py"), &["requests"]),
        (node("app.js"), &["fetch"]),
        (go().await, &[]),
        (php(), &["curl"]),
    ] {
        let mut app = https.app(&program, ":");
        app.args(words).arg(ROUNDS);
        let output = finished(app).await;
        let err = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!output.status.success(), "{program:?}");
        assert!(err.contains("certificate"), "{program:?}: {err}");
    }
    assert!(wechat.calls().is_empty());
    let told = https.sidecar.admin("/accounts").await.text();
    assert!(told.contains("wechat-sidecar ca --for"), "{told}");
}

/// These honour HTTPS_PROXY, so that no name has to lead elsewhere.
#[tokio::test]
#[ignore = "needs curl, Python with requests, Go, and PHP with curl"]
async fn clients_with_https_proxy_reach_the_sidecar_by_connect() {
    for (program, words) in [
        (shell("curl", "curl.sh"), &[][..]),
        (python("app.py"), &["requests"]),
        (python("wechatpy_app.py"), &[]),
        (go().await, &[]),
        (php(), &["curl"]),
    ] {
        let wechat = Wechat::start().await;
        let trust = temporary("trust");
        let flags = ["--tls-listen", "127.0.0.1:0", "--trust-dir"];
        let sidecar =
            Sidecar::with(&wechat, &[&flags[..], &[trust.to_str().unwrap()]].concat()).await;
        let mut app = Command::new("sh");
        app.args(["-euc", WITH_VARIABLES, "sh"]);
        app.arg(variables(program.language, &trust).await);
        program.put(&mut app);
        app.env("HTTPS_PROXY", &sidecar.url).args(words).arg(ROUNDS);
        let output = while_tokens_end(&wechat, finished(app)).await;
        check(&output, &wechat, &sidecar).await;
    }
}

#[tokio::test]
#[ignore = "needs Linux, root that may make mount namespaces, Node.js, Java and Go"]
async fn long_living_clients_outlive_a_restart_unchanged_over_https() {
    let wechat = Wechat::start().await;
    let mut https = Https::start(&wechat).await;
    let end = temporary("end");
    let mut apps = Vec::new();
    for (program, words) in [
        (node("app.js"), &["fetch"][..]),
        (java().await, &["httpclient"]),
        (go().await, &[]),
    ] {
        let mut app = https.app(&program, &https.variables(program.language).await);
        app.args(words).arg(&end);
        apps.push(tokio::spawn(finished(app)));
    }
    let mut went_on = goes_on(&wechat).await;
    for _ in 0..2 {
        https.sidecar.signal("-TERM");
        assert!(https.sidecar.ended().await.success());
        https.sidecar = started(&wechat, &https.flags).await;
        went_on = went_on && goes_on(&wechat).await;
    }
    fs::write(&end, "").unwrap();
    for app in apps {
        let output = app.await.unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{out}{err}");
        assert!(
            out.contains("without an error") && !out.contains(SECRET),
            "{out}"
        );
    }
    assert!(went_on && !wechat.saw_placeholder());
}

/// Whether every app makes a whole round from now on.
async fn goes_on(wechat: &Wechat) -> bool {
    wechat.clear();
    let sent = wechat.wait_until(all_have_sent);
    timeout(PATIENCE, sent).await.is_ok()
}

/// Whether every app has made a whole round since the records were cleared.
fn all_have_sent(wechat: &Wechat) -> bool {
    let calls = wechat.calls();
    let agents = ["node", "Java", "Go-http-client"];
    agents.iter().all(|agent| {
        let its = |call: &&support::wechat::RecordedCall| {
            call.header("user-agent")
                .is_some_and(|name| name.contains(agent))
        };
        calls.iter().filter(its).count() >= 8
    })
}
