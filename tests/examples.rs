//! The apps in `examples` serve their users while tokens end, and tell what cannot be healed.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use support::{
    FakeProcess, PATIENCE, Reply, SECRET, Sidecar,
    sidecar::{client, temporary, with_account},
    wechat::picture,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

const SEND: &str = "/cgi-bin/message/custom/send";
const CODE: &str = "/wxa/getwxacodeunlimit";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The command line that the README has for the app in this folder.
fn command_line(folder: &str) -> String {
    let readme = fs::read_to_string(examples().join("README.md")).unwrap();
    let link = format!("]({folder}) |");
    let row = readme.lines().find(|line| line.contains(&link)).unwrap();
    row.rsplit('`').nth(1).unwrap().to_owned()
}

/// A running app of `examples`. It is killed when this is dropped, with what it has started.
struct ExampleApp {
    child: Child,
    url: String,
    stderr: PathBuf,
    sidecar: Sidecar,
}

impl ExampleApp {
    /// Starts it with nothing in its environment but the sidecar's address.
    async fn start(folder: &str, sidecar: Sidecar) -> Self {
        let line = command_line(folder);
        let mut words = line.split(' ');
        let mut app = Command::new(words.next().unwrap());
        app.args(words).current_dir(examples().join(folder));
        app.env_clear();
        for name in ["PATH", "HOME"] {
            app.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // Shared with another test, which compiles the same library.
        let go = Path::new(env!("CARGO_TARGET_TMPDIR")).join("https_clients/go-cache");
        app.env("GOCACHE", go);
        app.env("WECHAT_API_BASE_URL", &sidecar.url)
            .env("PORT", "0");
        let stderr = temporary("stderr");
        app.stdin(Stdio::null()).stdout(Stdio::piped());
        app.stderr(File::create(&stderr).unwrap()).process_group(0);
        let mut child = app
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut app = Self {
            child,
            url: String::new(),
            stderr,
            sidecar,
        };
        // The compilers of Java and Go may be slow at first.
        let first = timeout(PATIENCE * 4, lines.next_line()).await;
        let first = first.expect("it never listens").unwrap();
        let url = first
            .as_deref()
            .and_then(|line| line.strip_prefix("listening on "));
        app.url = url
            .unwrap_or_else(|| panic!("{first:?}\n{}", app.logs()))
            .to_owned();
        app
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Its log and the sidecar's.
    fn logs(&self) -> String {
        format!("{}\n{}", self.log(), self.sidecar.log())
    }

    async fn get(&self, target: &str) -> Reply {
        ask(client().get(format!("{}{target}", self.url))).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        let url = format!("{}{path}", self.url);
        ask(client().post(url).body(body.to_string())).await
    }
}

impl Drop for ExampleApp {
    fn drop(&mut self) {
        // `go run` has the app as its child.
        let group = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    }
}

async fn ask(request: reqwest::RequestBuilder) -> Reply {
    let reply = request.send().await.unwrap();
    Reply {
        status: reply.status().as_u16(),
        headers: reply.headers().clone(),
        body: reply.bytes().await.unwrap(),
    }
}

async fn steer(fake: &FakeProcess, action: &str) {
    let request = client().post(format!("{}/_fake/{action}", fake.url()));
    assert_eq!(ask(request.json(&json!({}))).await.status, 200, "{action}");
}

/// The calls of a path that the fake has seen: their errcodes, and the body of the last one.
async fn seen(fake: &FakeProcess, path: &str) -> (Vec<Value>, Value) {
    let url = format!("{}/_fake/calls?path={path}", fake.url());
    let calls = ask(client().get(url)).await.json()["calls"].take();
    let calls = calls.as_array().unwrap();
    let errcodes = calls.iter().map(|call| call["errcode"].clone()).collect();
    (errcodes, calls.last().unwrap()["body"].clone())
}

fn no_reply() -> (u16, Value) {
    (502, json!({ "error": "no reply from the sidecar" }))
}

/// Starts everything, and has users of the app meet all that can happen to them.
async fn serves_users(folder: &str) {
    let fake = FakeProcess::start(&["--json"]).await;
    let mut command = with_account();
    let pace = format!("{CODE}=30/hour");
    command.args(["--upstream", &fake.url(), "--pace", &pace]);
    command.args(["--pace-wait", "0s"]);
    let sidecar = Sidecar::spawn(command, None).await;
    sidecar.until_ready().await;
    let mut app = ExampleApp::start(folder, sidecar).await;

    calls_are_healed(&app, &fake).await;
    errors_are_told(&app, &fake).await;
    app.sidecar.signal("-TERM");
    app.sidecar.ended().await;
    let reply = app.post("/login", &json!({ "code": "c&1=+3" })).await;
    assert_eq!((reply.status, reply.json()), no_reply(), "{}", app.logs());

    let log = app.log();
    assert!(log.contains("errcode 45015"), "{log}");
    for private in [SECRET, "session_key", "c&1", "c%261"] {
        assert!(!log.contains(private), "{log}");
    }
}

async fn calls_are_healed(app: &ExampleApp, fake: &FakeProcess) {
    let reply = app.post("/login", &json!({ "code": "c&1=+2" })).await;
    let openid = format!("oUser{:0>23}", "c&1=+2");
    let told = json!({ "openid": openid });
    assert_eq!((reply.status, reply.json()), (200, told), "{}", app.logs());

    steer(fake, "expire").await;
    let text = "<你好> & \"bye\"\n";
    let reply = app
        .post("/notify", &json!({ "openid": "o1", "text": text }))
        .await;
    let told = json!({ "sent": true });
    assert_eq!((reply.status, reply.json()), (200, told), "{}", app.logs());
    let (errcodes, body) = seen(fake, SEND).await;
    assert_eq!(errcodes, [42001, 0]);
    let message = json!({ "touser": "o1", "msgtype": "text", "text": { "content": text } });
    assert_eq!(body, message);

    steer(fake, "rotate").await;
    let reply = app.get("/qr?scene=a%3D1%26b%3D%E4%BD%A0+%2B").await;
    assert_eq!(reply.header("content-type"), Some("image/jpeg"));
    assert_eq!((reply.status, reply.body), (200, picture()));
    let (errcodes, body) = seen(fake, CODE).await;
    assert_eq!(errcodes, [json!(40001), Value::Null]);
    assert_eq!(body, json!({ "scene": "a=1&b=你 +" }));
}

async fn errors_are_told(app: &ExampleApp, fake: &FakeProcess) {
    let again = json!({ "code": "c&1=+2" });
    let message = json!({ "openid": "o1", "text": "hi" });
    let failed = |error: &str, errcode: i64| json!({ "error": error, "errcode": errcode });

    let reply = app.post("/login", &again).await;
    let told = failed("log in again", 40163);
    assert_eq!((reply.status, reply.json()), (401, told));

    steer(fake, "cut").await;
    let reply = app.get("/qr?scene=a").await;
    assert_eq!((reply.status, reply.json()), no_reply(), "{}", app.logs());

    // The rate of `pace` allows three sends at once, one of which was a replay.
    let reply = app.get("/qr?scene=a").await;
    let told = failed("try again later", 990_429);
    assert_eq!((reply.status, reply.json()), (503, told));
    let seconds = reply.header("retry-after").unwrap().parse::<u64>().unwrap();
    assert!((1..=600).contains(&seconds), "{seconds}");

    steer(fake, "errcode?code=45015").await;
    let reply = app.post("/notify", &message).await;
    let told = failed("the call failed", 45015);
    assert_eq!((reply.status, reply.json()), (502, told));
    let sends = seen(fake, SEND).await.0.len();
    steer(fake, "reset").await;
    assert_eq!(sends, 3, "it was sent again");

    for (path, body, error) in [
        ("/login", json!({}), "code is missing"),
        ("/notify", json!({ "openid": "o1" }), "text is missing"),
    ] {
        let reply = app.post(path, &body).await;
        assert_eq!(
            (reply.status, reply.json()),
            (400, json!({ "error": error }))
        );
    }
    let no_json = client().post(format!("{}/login", app.url)).body("code");
    assert_eq!(ask(no_json).await.status, 400);
    for path in ["/login", "/nothing"] {
        assert_eq!(app.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
#[ignore = "needs Python"]
async fn the_app_in_python_serves_its_users_while_tokens_end() {
    serves_users("python").await;
}

#[tokio::test]
#[ignore = "needs Node.js"]
async fn the_app_in_node_serves_its_users_while_tokens_end() {
    serves_users("node").await;
}

#[tokio::test]
#[ignore = "needs Java with Gson"]
async fn the_app_in_java_serves_its_users_while_tokens_end() {
    serves_users("java").await;
}

#[tokio::test]
#[ignore = "needs Go"]
async fn the_app_in_go_serves_its_users_while_tokens_end() {
    serves_users("go").await;
}
