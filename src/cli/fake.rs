//! `fake`: a fake WeChat for the tests of apps, on this machine alone.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::{
    failed,
    output::{eprint, say},
};
use crate::{
    config::error::{ConfigError, Provenance},
    fake::{APPID, CORPID, SECRET, Setup, Wechat},
    rt::signals::Signals,
    settings::parse,
};

/// How many calls are remembered at least.
const REMEMBERED: usize = 10_000;

/// What to start.
#[derive(Clone, Debug)]
pub struct FakeOptions {
    setup: Setup,
    tls: Option<PathBuf>,
    script: Option<Value>,
    record: Option<PathBuf>,
    json: bool,
    own_secret: bool,
}

/// The subcommand.
pub(super) fn command() -> Command {
    Command::new("fake")
        .about("Be a fake WeChat for the tests of an app: it needs no account and no network")
        .args([
            value("listen", "ADDRESS", "Where to listen, on loopback; port 0 takes any that is free [default: 127.0.0.1:7090]"),
            switch("unsafe-listen", "Listen on addresses that other machines can reach"),
            value("appid", "APPID", "The AppID of its account, or the corpid [default: wx0123456789abcdef, ww0123456789abcdef]"),
            value("secret", "SECRET", "The AppSecret, made up like the AppID; with --wecom repeatable, for several apps [default: 0123456789abcdef0123456789abcdef]")
                .action(ArgAction::Append),
            switch("wecom", "Be WeCom: a corp, and gettoken"),
            value("hostile", "PART", "The part of calls with a good token that are refused once, such as 5% [default: 0%]"),
            value("lifetime", "DURATION", "How long tokens live [default: 2h]"),
            value("overlap", "DURATION", "How long a replaced token still works, at most a quarter of its life [default: 5m]"),
            value("seed", "NUMBER", "Make tokens and chance the same in every run"),
            value("tls", "DIR", "Speak TLS, and write the root to trust to DIR/ca.pem"),
            value("script", "FILE", "Play the scenes in this JSON file"),
            value("record", "FILE", "Write each call to this file as a line of JSON, without tokens and secrets"),
            switch("json", "Print the line that says where it listens as JSON"),
        ])
        .after_help(AFTERWORD)
}

const AFTERWORD: &str = "\
When it listens it prints one line, and it serves until SIGTERM or SIGINT. To see things go wrong:

  curl -X POST http://127.0.0.1:7090/_fake/expire             every token is past its expiry
  curl -X POST 'http://127.0.0.1:7090/_fake/slow?ms=3000'     replies come late
  curl -X POST http://127.0.0.1:7090/_fake/reset              all is well again
  curl http://127.0.0.1:7090/_fake                            what it saw, and all actions and knobs
  curl http://127.0.0.1:7090/_fake/calls                      the calls that it saw

Exit codes: 0 ended by a signal, 1 failed, 64 wrong usage.";

fn value(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// What the arguments ask for.
pub(super) fn options(matches: &ArgMatches) -> Result<FakeOptions, ConfigError> {
    let path = |name| matches.get_one::<String>(name).map(PathBuf::from);
    let wecom = matches.get_flag("wecom");
    let mut setup = Setup {
        listen: address(matches)?,
        tls: matches.contains_id("tls"),
        refusal_chance: parsed(matches, "hostile", parse::part)?.unwrap_or(0.0),
        seed: parsed(matches, "seed", str::parse)?,
        wecom,
        remember: REMEMBERED,
        ..Setup::default()
    };
    if let Some(lifetime) = parsed(matches, "lifetime", parse::duration)? {
        setup.lifetime = lifetime;
    }
    if let Some(overlap) = parsed(matches, "overlap", parse::pause)? {
        setup.overlap = overlap;
    }
    let appid = matches.get_one::<String>("appid");
    let appid = appid.map_or(if wecom { CORPID } else { APPID }, String::as_str);
    let secrets = matches.get_many::<String>("secret");
    let own: Vec<_> = secrets.into_iter().flatten().cloned().collect();
    if own.len() > 1 && !wecom {
        return Err(wrong(
            "secret",
            "only a corp has several: give --wecom, too",
        ));
    }
    if appid.is_empty() || own.iter().any(String::is_empty) {
        return Err(wrong(
            "secret",
            "neither an AppID nor a secret can be empty",
        ));
    }
    let own_secret = !own.is_empty();
    let secrets = if own_secret {
        own
    } else {
        vec![SECRET.to_owned()]
    };
    let account = |secret| (appid.to_owned(), secret);
    setup.accounts = secrets.into_iter().map(account).collect();
    Ok(FakeOptions {
        setup,
        tls: path("tls"),
        script: path("script").map(|file| script(&file)).transpose()?,
        record: path("record"),
        json: matches.get_flag("json"),
        own_secret,
    })
}

/// Where to listen.
fn address(matches: &ArgMatches) -> Result<SocketAddr, ConfigError> {
    let preset = SocketAddr::from(([127, 0, 0, 1], 7090));
    let address = parsed(matches, "listen", parse::address)?.unwrap_or(preset);
    if !address.ip().is_loopback() && !matches.get_flag("unsafe-listen") {
        let problem = "other machines can reach this address: a fake listens on loopback, such as 127.0.0.1, unless --unsafe-listen is given";
        return Err(wrong("listen", problem));
    }
    Ok(address)
}

fn script(file: &Path) -> Result<Value, ConfigError> {
    let text = fs::read(file)
        .map_err(|error| wrong("script", &format!("the file cannot be read: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        wrong(
            "script",
            &format!("the file is no JSON, see line {line}, column {column}"),
        )
    })
}

/// The value of this flag, if it is given.
fn parsed<T, E: ToString>(
    matches: &ArgMatches,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, ConfigError> {
    let text = matches.get_one::<String>(name);
    let value = text.map(|text| parse(text)).transpose();
    value.map_err(|problem| wrong(name, &format!("the value: {}", problem.to_string())))
}

fn wrong(flag: &'static str, problem: &str) -> ConfigError {
    ConfigError::new(Provenance::Flag(flag), problem.to_owned())
}

/// Serves until a signal comes.
///
/// # Errors
/// If the script is none.
pub(super) async fn serve(
    options: FakeOptions,
    mut signals: Signals,
) -> Result<ExitCode, ConfigError> {
    let wechat = match Wechat::listen(options.setup.clone()).await {
        Ok(wechat) => wechat,
        Err(error) => {
            let address = options.setup.listen;
            return Ok(failed(&format!(
                "fake: cannot listen on {address}: {error}"
            )));
        }
    };
    if let Some(script) = &options.script {
        let begun = wechat.play(script);
        begun.map_err(|error| wrong("script", &error.to_string()))?;
    }
    match prepare(&wechat, &options) {
        Ok(root) => say(&line(&wechat, &options, root.as_deref())),
        Err(error) => return Ok(failed(&format!("fake: {error}"))),
    }
    signals.stop.recv().await;
    match wechat.record_error() {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => {
            eprint(&format!("fake: not all calls were recorded: {error}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Makes the files that are wanted, and returns the path of the root to trust.
fn prepare(wechat: &Wechat, options: &FakeOptions) -> io::Result<Option<PathBuf>> {
    if let Some(file) = &options.record {
        wechat.record(file)?;
    }
    let (Some(dir), Some(pem)) = (&options.tls, wechat.ca_pem()) else {
        return Ok(None);
    };
    let file = dir.join("ca.pem");
    fs::create_dir_all(dir)?;
    fs::write(&file, pem)?;
    Ok(Some(file))
}

/// The one line on stdout. A secret that was given is not repeated.
fn line(wechat: &Wechat, options: &FakeOptions, root: Option<&Path>) -> String {
    let (url, is_wecom) = (wechat.url(), wechat.is_wecom());
    let appid = options.setup.accounts.first();
    let appid = appid.map_or("", |(appid, _)| appid.as_str());
    let secret = (!options.own_secret).then_some(SECRET);
    if options.json {
        let api = if is_wecom { "wecom" } else { "wechat" };
        return json!({ "url": url, "api": api, "appid": appid, "secret": secret, "ca": root })
            .to_string();
    }
    let (name, id) = if is_wecom {
        ("WeCom", "corpid")
    } else {
        ("WeChat", "AppID")
    };
    let secret = secret.map(|secret| format!(", secret {secret}"));
    let root = root.map(|root| format!(", root to trust {}", root.display()));
    format!(
        "fake {name} listening on {url}, {id} {appid}{}{}",
        secret.unwrap_or_default(),
        root.unwrap_or_default()
    )
}
