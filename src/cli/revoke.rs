//! `revoke`: has a running sidecar revoke a leaked token, and tells how far it is. The sidecar goes on by itself.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use http::Method;
use serde_json::Value;
use tokio::time::{Duration, sleep};

use super::{
    admin_client::{AskError, request},
    failed,
    output::say,
};
use crate::config::error::{ConfigError, Provenance};

/// How often it asks how far the revocation is.
const PACE: Duration = Duration::from_millis(200);

/// How many questions in a row may go unanswered.
const SILENT: u32 = 10;

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeOptions {
    /// The account, if one was named.
    pub account: Option<String>,
    /// Whether not to ask first.
    pub yes: bool,
}

/// The subcommand.
pub(super) fn command() -> Command {
    Command::new("revoke")
        .about("Revoke a leaked token through a running sidecar; takes --enable-revoke")
        .args([
            Arg::new("account")
                .long("account")
                .value_name("ACCOUNT")
                .help("The AppID or the name of the account, where there are several"),
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("Do not ask first"),
        ])
        .after_help(AFTERWORD)
}

const AFTERWORD: &str = "\
A leaked AppSecret is not helped by this: reset it in WeChat's console.

It takes all other keys of the sidecar, too, and looks at none of them.

Exit codes: 0 done, 1 failed, 64 wrong usage.";

/// What the arguments ask for.
pub(super) fn options(matches: &ArgMatches) -> Result<RevokeOptions, ConfigError> {
    let word = matches.get_one::<String>("account").cloned();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if word.as_deref().is_some_and(|word| !word.bytes().all(plain)) {
        let problem = "the value is neither an AppID nor a name of an account".to_owned();
        return Err(ConfigError::new(Provenance::Flag("account"), problem));
    }
    Ok(RevokeOptions {
        account: word,
        yes: matches.get_flag("yes"),
    })
}

/// Has the sidecar at `admin` revoke the token, after a question unless `--yes` is given.
///
/// # Errors
/// If there is nobody to ask.
pub(super) async fn revoke(
    options: RevokeOptions,
    admin: SocketAddr,
) -> Result<ExitCode, ConfigError> {
    if !options.yes && !io::stdin().is_terminal() {
        let problem =
            "stdin is no terminal to ask on: give --yes to revoke the token without a question";
        return Err(ConfigError::new(
            Provenance::Flag("yes"),
            problem.to_owned(),
        ));
    }
    let query = options.account.map(|word| format!("?account={word}"));
    let path = format!("/revoke{}", query.unwrap_or_default());
    let before = match ask(admin, Method::GET, &path).await {
        Ok(before) => before,
        Err(problem) => return Ok(failed(&format!("revoke: {problem}"))),
    };
    foretell(&before);
    if !options.yes && !is_confirmed() {
        return Ok(failed("revoke: nothing was revoked"));
    }
    Ok(match ask(admin, Method::POST, &path).await {
        Ok(begun) => follow(admin, &path, begun).await,
        Err(problem) => failed(&format!("revoke: {problem}")),
    })
}

/// Why there is no document of `/revoke`.
#[derive(Debug, thiserror::Error)]
enum RevokeError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(
        "it may not revoke tokens: start it with --enable-revoke, and ask from the same machine"
    )]
    NotEnabled,
    #[error("it has no /revoke: it is an older version")]
    Old,
    #[error("{0}")]
    Refused(String),
}

/// Asks for the document of `/revoke`, which tells of failed revocations, too.
async fn ask(admin: SocketAddr, method: Method, path: &str) -> Result<Value, RevokeError> {
    let reply = request(admin, method, path).await?;
    match (serde_json::from_str(&reply.body), reply.status) {
        (Ok(document @ Value::Object(_)), _) => Ok(document),
        (_, 403) => Err(RevokeError::NotEnabled),
        (_, 404) if reply.body.starts_with("see GET /") => Err(RevokeError::Old),
        _ => Err(RevokeError::Refused(reply.line())),
    }
}

/// Says what will happen.
fn foretell(document: &Value) {
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let calls = document["calls_in_last_hour"].as_u64().unwrap_or_default();
    say(&format!("account: {}", text("account")));
    say(&format!("what is done: {}", text("what_it_does")));
    say(&format!(
        "who notices: calls through this sidecar go on ({calls} in the last hour), and so do those of other sidecars; \
         whoever else uses the old token is refused"
    ));
    if document["state"] == "running" {
        say("a revocation is running already, and this joins it");
    }
}

/// Asks whether to go on.
fn is_confirmed() -> bool {
    let mut stdout = io::stdout();
    let _ = write!(stdout, "Revoke the token? [y/N] ").and_then(|()| stdout.flush());
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Tells each step when it is done, and then how it ended.
async fn follow(admin: SocketAddr, path: &str, begun: Value) -> ExitCode {
    let mut told = 0;
    let mut silent = 0;
    let mut latest = begun;
    loop {
        told = tell_steps(&latest, told);
        let text = |field: &str| latest[field].as_str().unwrap_or_default();
        match text("state") {
            "running" => {}
            "done" => {
                say(&format!("revoked: {}", dead_in(&latest)));
                return ExitCode::SUCCESS;
            }
            "failed" => {
                return failed(&format!("revoke: {}; {}", text("error"), dead_in(&latest)));
            }
            _ => {
                return failed(
                    "revoke: the sidecar has opened the account anew, and does not tell any more; see its log",
                );
            }
        }
        sleep(PACE).await;
        latest = match ask(admin, Method::GET, path).await {
            Ok(document) => {
                silent = 0;
                document
            }
            Err(_) if silent < SILENT => {
                silent += 1;
                latest
            }
            Err(problem) => {
                return failed(&format!(
                    "revoke: it began, and cannot be followed: {problem}"
                ));
            }
        };
    }
}

/// Tells the steps that are done, except the first `told`, and returns how many are done.
fn tell_steps(document: &Value, told: usize) -> usize {
    let steps = document["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let done = steps.iter().take_while(|step| step["state"] == "done");
    let done: Vec<_> = done.map(|step| step["step"].as_str()).collect();
    for step in done.iter().skip(told) {
        say(match step {
            Some("look_up") => "WeChat's current token was looked up",
            Some("first_refresh") => {
                "the first refresh was forced, and the new token is in use; now comes the pause that WeChat wants"
            }
            Some("pause") => "the pause is over",
            Some("second_refresh") => "the second refresh was forced, and its token is in use",
            Some("request") => "another token was requested, and is in use",
            _ => "a step is done",
        });
    }
    done.len().max(told)
}

/// When the old token is dead.
fn dead_in(document: &Value) -> String {
    match document["old_token_dead_in_seconds"].as_f64() {
        None => "as far as is known, the old token was not replaced, and still works".to_owned(),
        Some(seconds) if seconds <= 0.0 => "WeChat refuses the old token now".to_owned(),
        Some(seconds) => format!("WeChat refuses the old token in {seconds:.0} s at the latest"),
    }
}
