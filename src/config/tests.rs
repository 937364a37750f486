//! Tests of all layers together, and of what is refused.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;
use crate::token::source::redis::Credentials;

mod account_upstreams;
mod accounts;
mod admin;
mod pace;
mod secrets;
mod sources;

/// As WeChat's are.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The sources of a test, and the file that `--config` names.
struct Given(Sources, PathBuf);

impl Drop for Given {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.1);
    }
}

fn given() -> Given {
    let name = format!("config-{}-{}.toml", std::process::id(), fastrand::u64(..));
    let env = [
        ("WECHAT_APPID", "wx0123456789abcdef"),
        ("WECHAT_SECRET", SECRET),
    ];
    let given = Given(Sources::default(), std::env::temp_dir().join(name));
    env.into_iter()
        .fold(given, |given, (name, text)| given.env(name, text))
}

impl Given {
    fn flag(mut self, id: Id, text: &str) -> Self {
        self.0.flags.push((id, vec![text.to_owned()]));
        self
    }

    fn env(mut self, name: &str, text: &str) -> Self {
        self.0.env.retain(|(known, _)| known != name);
        self.0.env.push((name.to_owned(), text.to_owned()));
        self
    }

    fn file(self, text: &str) -> Self {
        fs::write(&self.1, text).unwrap();
        // The file may contain secrets, so only its owner may read it.
        fs::set_permissions(&self.1, fs::Permissions::from_mode(0o600)).unwrap();
        let path = self.1.to_str().unwrap().to_owned();
        self.flag(Id::Config, &path)
    }

    fn load(&self) -> Config {
        Config::load(&self.0).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self) -> String {
        Config::load(&self.0).unwrap_err().to_string()
    }
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let config = given().load();
    assert_eq!(config.listen[0].to_string(), "127.0.0.1:7080");
    assert_eq!(config.admin.to_string(), "127.0.0.1:7081");
    assert_eq!(config.connect.origins.len(), 2);
    assert_eq!(
        (config.proxy.replay_limit, config.replay_memory),
        (16 << 20, 64 << 20)
    );
    assert_eq!(
        (
            config.server.max_connections,
            config.upstream.max_connections
        ),
        (4096, 1024)
    );
    assert_eq!(config.accounts[0].daily_fetches, 500);
    assert!(matches!(config.server.workers, 1 | 2));
    assert!(!config.enable_shutdown && !config.proxy.allow_clear_quota && !config.log.json);
    assert_eq!(config.shutdown_delay, Duration::ZERO);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn only_a_header_that_stays_here_can_be_an_exception() {
    let given = |name| given().env("WECHAT_SIDECAR_FORWARD_HEADER", name);
    given("Cookie, x-real-ip").load();
    let error = given("cookie,traceparen").error();
    for text in ["traceparen", "authorization, baggage, cookie"] {
        assert!(error.contains(text), "{error}");
    }
    given("").load();
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let file = "workers = 3\nreplay_limit = '1KiB'\nlisten = ['127.0.0.1:1', '127.0.0.1:2']";
    let config = given().file(file).load();
    assert_eq!(
        (
            config.server.workers,
            config.proxy.replay_limit,
            config.listen.len()
        ),
        (3, 1024, 2)
    );
    let env = || {
        given()
            .file(file)
            .env("WECHAT_SIDECAR_WORKERS", "4")
            .env("WECHAT_SIDECAR_REPLAY_LIMIT", "")
    };
    let config = env().load();
    assert_eq!(
        (config.server.workers, config.proxy.replay_limit),
        (4, 1024)
    );
    let config = env()
        .env("WECHAT_SIDECAR_LISTEN", "127.0.0.1:3, unix:/s")
        .flag(Id::Workers, "5")
        .load();
    assert_eq!(config.server.workers, 5);
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:3", "unix:/s"]);
}

#[test]
fn the_environment_can_name_the_file_and_a_flag_can_switch_off() {
    let given = given().file("enable-shutdown = true\nadmin = '0.0.0.0:1'");
    let path = given.1.to_str().unwrap().to_owned();
    let mut given = given.env("WECHAT_SIDECAR_CONFIG", &path);
    given.0.flags.clear();
    assert!(given.load().enable_shutdown);
    assert_eq!(given.load().admin.to_string(), "0.0.0.0:1");
    assert!(
        !given
            .flag(Id::EnableShutdown, "false")
            .load()
            .enable_shutdown
    );
}

#[test]
fn an_error_names_the_place_of_the_value() {
    let error = given().flag(Id::ReplayLimit, "lots").error();
    assert_eq!(
        error,
        "--replay-limit: \"lots\" is not a size; for example 16MiB"
    );
    let error = given().env("WECHAT_SIDECAR_REPLAY_LIMIT", "lots").error();
    assert!(
        error.starts_with("WECHAT_SIDECAR_REPLAY_LIMIT: \"lots\""),
        "{error}"
    );
    let given = given().file("\nreplay-limit = 'lots'");
    let place = format!("replay-limit in {}, line 2: \"lots\"", given.1.display());
    assert!(given.error().starts_with(&place), "{}", given.error());
}

#[test]
fn listening_beyond_loopback_takes_two_flags() {
    let wide = || given().flag(Id::Listen, "0.0.0.0:7080");
    let key = std::env::temp_dir().join(format!("key-{}", std::process::id()));
    fs::write(&key, "k").unwrap();
    let key_file = key.to_str().unwrap();
    for (given, missing) in [
        (wide(), "add --unsafe-listen and --caller-key-file"),
        (
            wide().flag(Id::UnsafeListen, "true"),
            "add --caller-key-file FILE (or --no-caller-key)",
        ),
        (wide().flag(Id::NoCallerKey, "true"), "add --unsafe-listen"),
        (
            wide().flag(Id::CallerKeyFile, key_file),
            "add --unsafe-listen",
        ),
    ] {
        let error = given.error();
        assert!(
            error.starts_with("--listen: 0.0.0.0:7080 can be reached") && error.contains(missing),
            "{error}"
        );
    }
    let unsafe_too = || wide().flag(Id::UnsafeListen, "true");
    unsafe_too().flag(Id::NoCallerKey, "true").load();
    let config = unsafe_too().flag(Id::CallerKeyFile, key_file).load();
    assert!(config.proxy.guard.caller_key.unwrap().held().matches(b"k"));
    let both = given()
        .flag(Id::NoCallerKey, "true")
        .flag(Id::CallerKeyFile, key_file);
    assert!(both.error().contains("contradicts"));
    given().flag(Id::Listen, "unix:/run/x.sock").load();
    fs::remove_file(&key).unwrap();
}

#[test]
fn an_address_is_taken_once() {
    let twice = given()
        .env("WECHAT_SIDECAR_LISTEN", "127.0.0.1:1,localhost:1")
        .error();
    assert!(twice.contains("twice"), "{twice}");
    assert!(
        given()
            .flag(Id::Listen, "127.0.0.1:7081")
            .error()
            .contains("twice")
    );
    given()
        .env("WECHAT_SIDECAR_LISTEN", "127.0.0.1:0,127.0.0.1:0")
        .load();
    assert!(given().file("listen = []").error().contains("at least one"));
}

#[test]
fn the_egress_proxy_takes_credentials_from_a_file_only() {
    let file = std::env::temp_dir().join(format!("egress-{}", std::process::id()));
    fs::write(&file, "user:HUNTER2\n").unwrap();
    let path = file.to_str().unwrap();
    let with = |url: &str| {
        given()
            .flag(Id::EgressProxy, url)
            .flag(Id::EgressProxyCredentialsFile, path)
    };
    let egress = with("socks5://proxy").load().connect.egress.unwrap();
    assert_eq!(egress.credentials(), Some(("user", "HUNTER2")));
    let error = given().flag(Id::EgressProxyCredentialsFile, path).error();
    assert!(
        error.starts_with("--egress-proxy-credentials-file: there is no --egress-proxy"),
        "{error}"
    );
    fs::write(&file, "HUNTER2").unwrap();
    let error = with("http://proxy").error();
    assert!(
        error.contains("user:password") && !error.contains("HUNTER2"),
        "{error}"
    );
    fs::remove_file(&file).unwrap();
    let error = given()
        .flag(Id::EgressProxy, "http://user:HUNTER2@proxy")
        .error();
    assert!(
        error.contains("no user or password") && !error.contains("HUNTER2"),
        "{error}"
    );
}

#[test]
fn the_store_takes_its_password_from_one_of_two_files() {
    let file = std::env::temp_dir().join(format!("store-{}", std::process::id()));
    fs::write(&file, "account:HUNTER2\n").unwrap();
    let path = file.to_str().unwrap();
    let store = || given().flag(Id::Store, "redis://localhost");
    let one = store().flag(Id::StoreAuthFile, path).load().store.unwrap();
    assert!(matches!(one.credentials, Some(Credentials::OneArgument(_))));
    let two = store().flag(Id::StorePasswordFile, path);
    let pair = two.load().store.unwrap().credentials;
    assert!(matches!(pair, Some(Credentials::UserAndPassword(_))));
    let error = two.flag(Id::StoreAuthFile, path).error();
    assert!(
        error.starts_with("--store-auth-file: store-password-file is set as well"),
        "{error}"
    );
    let error = given().flag(Id::StoreAuthFile, path).error();
    assert!(error.contains("there is no --store"), "{error}");
    fs::remove_file(&file).unwrap();
}

#[test]
fn a_collectors_headers_are_lines_and_take_a_collector() {
    let file = std::env::temp_dir().join(format!("otlp-{}", std::process::id()));
    fs::write(&file, "Authorization: Bearer HUNTER2\nX-Scope: 1\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let path = file.to_str().unwrap();
    assert!(given().load().traces.is_none());
    let headers = given().flag(Id::OtlpHeadersFile, path);
    let error = headers.error();
    assert!(error.contains("there is no --otlp-endpoint"), "{error}");
    let remote = headers.flag(Id::OtlpEndpoint, "http://collector:4318");
    assert!(remote.load().warnings[0].contains("over plain http"));
    fs::write(&file, "HUNTER2").unwrap();
    let error = remote.error();
    let says = "--otlp-headers-file: the file does not hold lines like";
    assert!(
        error.starts_with(says) && !error.contains("HUNTER2"),
        "{error}"
    );
    fs::remove_file(&file).unwrap();
}

#[test]
fn what_is_unwise_is_a_warning() {
    let classic = given().flag(Id::TokenApi, "classic").load();
    assert_eq!(classic.accounts[0].daily_fetches, 200);
    assert!(classic.warnings[0].contains("classic"));
    let large = given().flag(Id::ReplayLimit, "1GiB").load();
    assert!(large.warnings[0].contains("--replay-memory"));
    let stranger = given()
        .env("WECHAT_SIDECAR_LISEN", "HUNTER2")
        .env("WECHAT_SIDECAR_PORT", "tcp://x")
        .load();
    assert_eq!(stranger.warnings.len(), 1, "{:?}", stranger.warnings);
    assert!(!stranger.warnings[0].contains("HUNTER2"));
    let lost = given()
        .flag(Id::UpstreamAddress, "10.0.0.1")
        .flag(Id::EgressProxy, "http://proxy")
        .load();
    assert!(lost.warnings[0].contains("--upstream-address"));
}

#[test]
fn the_memory_for_bodies_follows_the_limit_of_the_process() {
    let mib = |count: u64| count << 20;
    for (given_memory, limit, memory, warned) in [
        (None, None, 64, 0),
        (None, Some(1024), 64, 0),
        (None, Some(128), 32, 0),
        // No body as large as --replay-limit can be held.
        (None, Some(32), 8, 1),
        (Some("64MiB"), Some(128), 64, 0),
        (Some("64MiB"), Some(80), 64, 1),
        (Some("64MiB"), Some(48), 64, 1),
    ] {
        let mut given = given();
        if let Some(text) = given_memory {
            given = given.flag(Id::ReplayMemory, text);
        }
        let settings = layers::gather(&given.0).ok().unwrap().settings;
        let mut warnings = Vec::new();
        let read = replay_memory(&settings, limit.map(mib), &mut warnings).unwrap();
        assert_eq!(
            (read as u64, warnings.len()),
            (mib(memory), warned),
            "{limit:?}"
        );
    }
}

#[test]
fn a_size_without_a_unit_is_refused_or_warned_of() {
    let error = given().flag(Id::ReplayLimit, "16").error();
    assert!(
        error.contains("--replay-limit") && error.contains("write the unit"),
        "{error}"
    );
    let warnings = given().flag(Id::ReplayLimit, "1048576").load().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("--replay-limit: 1048576 has no unit"),
        "{warnings:?}"
    );
    assert!(
        given()
            .flag(Id::ReplayLimit, "0")
            .load()
            .warnings
            .is_empty()
    );
}

#[test]
fn a_rule_that_matches_no_known_path_is_warned_of() {
    let known = given()
        .flag(Id::Deny, "/cgi-bin/menu/*")
        .flag(Id::Allow, "/cgi-bin/**");
    assert!(known.load().warnings.is_empty());
    let unknown = given().flag(Id::Deny, "/cgi-bin/mneu/*").load().warnings;
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert!(
        unknown[0].contains("deny = \"/cgi-bin/mneu/*\" matches no"),
        "{unknown:?}"
    );
}
