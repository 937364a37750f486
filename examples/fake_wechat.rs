//! The fake WeChat as a program: for the README, for offline development, and for tests in other languages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::time::Duration;
use wechat_sidecar::fake::{APPID, CORPID, SECRET, Setup, Wechat};

const USAGE: &str = "\
Usage: fake_wechat [--wecom] [--listen ADDRESS] [--calm] [--lifetime SECONDS]
                   [--overlap SECONDS] [--tls DIR]

  --wecom             be WeCom: a corp with one secret, and gettoken
  --listen ADDRESS    where to listen, such as 127.0.0.1:7090, which is the default
  --calm              refuse nothing by chance (otherwise 5 % of good tokens are refused once)
  --lifetime SECONDS  how long tokens live; 7200 unless given
  --overlap SECONDS   how long a replaced token still works, at most a quarter of its life; 300 unless given
  --tls DIR           speak TLS, and write the root to trust to DIR/ca.pem";

/// What was typed.
enum Arguments {
    Help,
    Run(Box<Setup>, Option<PathBuf>),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match parse(std::env::args().skip(1)) {
        Ok(Arguments::Help) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(Arguments::Run(setup, tls_dir)) => run(*setup, tls_dir.as_deref()).await,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut typed: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut setup = Setup {
        listen: ([127, 0, 0, 1], 7090).into(),
        ..Setup::default()
    };
    let mut tls_dir = None;
    while let Some(flag) = typed.next() {
        let mut value = || typed.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(Arguments::Help),
            "--wecom" => {
                setup.wecom = true;
                setup.accounts = Setup::wecom(&[SECRET]).accounts;
            }
            "--calm" => setup.refusal_chance = 0.0,
            "--listen" => {
                let value = value()?;
                setup.listen = value.parse().map_err(|_| {
                    format!(
                        "--listen wants an address and a port such as 127.0.0.1:7090, not {value}"
                    )
                })?;
            }
            "--lifetime" => setup.lifetime = seconds(&flag, &value()?, 1)?,
            "--overlap" => setup.overlap = seconds(&flag, &value()?, 0)?,
            "--tls" => {
                setup.tls = true;
                tls_dir = Some(PathBuf::from(value()?));
            }
            _ => return Err(format!("there is no argument {flag}")),
        }
    }
    Ok(Arguments::Run(Box::new(setup), tls_dir))
}

/// A whole number of seconds, at least `least`.
fn seconds(flag: &str, value: &str, least: u64) -> Result<Duration, String> {
    let seconds = value.parse().ok().filter(|seconds| *seconds >= least);
    let wants = || format!("{flag} wants a whole number of seconds from {least} on, not {value}");
    seconds.map(Duration::from_secs).ok_or_else(wants)
}

async fn run(setup: Setup, tls_dir: Option<&Path>) -> Result<(), String> {
    let (listen, wecom) = (setup.listen, setup.wecom);
    let wechat = Wechat::listen(setup)
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let url = wechat.url();
    let mut curl = "curl".to_owned();
    if wecom {
        println!("fake WeCom listening on {url}; in the sidecar's file:\n");
        println!("  [[accounts]]\n  kind = 'wecom'\n  corpid = '{CORPID}'");
        println!("  secret = '{SECRET}'\n  upstream = '{url}'");
    } else {
        println!("fake WeChat listening on {url}\n");
        println!("  WECHAT_APPID={APPID}");
        println!("  WECHAT_SECRET={SECRET}");
    }
    if let (Some(dir), Some(pem)) = (tls_dir, wechat.ca_pem()) {
        let file = dir.join("ca.pem");
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&file, pem))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        println!("  root to trust: {}", file.display());
        curl.push_str(&format!(" --cacert {}", file.display()));
    }
    println!("\nTo see things go wrong:");
    println!("  {curl} -X POST {url}/_fake/expire    # every token is past its expiry");
    println!("  {curl} -X POST {url}/_fake/rotate    # somebody else has replaced every token");
    println!("  {curl} {url}/_fake/change -d '{{\"reply_delay_ms\":2000}}'    # and other knobs");
    println!("  {curl} {url}/_fake/stats    # what has arrived");
    println!("\nCtrl-C ends it.");
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| format!("cannot wait for Ctrl-C: {error}"))
}
