//! `quota`: asks WeChat how much of the quotas of endpoints is left.

use std::{env, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use http::Method;
use serde_json::{Value, json};

use super::{
    admin_client::{AdminReply, AskError, request},
    call::{QuestionError, Questions, account, account_argument},
    explain, failed,
    output::{eprint, print},
};
use crate::{
    config::{AdminPort, ConfigError, Sources},
    lang::Lang,
    wechat::endpoint::QUOTA_GET,
};

/// What to ask.
#[derive(Clone, Debug)]
pub struct QuotaOptions {
    /// Empty for all that the running sidecar has seen.
    paths: Vec<String>,
    account: Option<String>,
    json: bool,
}

/// Why the arguments of `quota` ask nothing. They are not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaUsageError {
    /// This path, counted from 1.
    #[error(
        "quota: path {0} is none: write it as /cgi-bin/message/custom/send, without a host and a query"
    )]
    Path(usize),
    /// The account can be no AppID or name.
    #[error("quota: --account: the value is no AppID and no name")]
    Account,
}

/// Why nothing was asked.
#[derive(Debug, thiserror::Error)]
enum QuotaError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}; without a sidecar that runs, name the paths")]
    Admin(AskError),
    #[error("the sidecar does not say what it has seen: {0}")]
    NotSaid(String),
    #[error("no call of this account has met an endpoint with a quota yet: name the paths")]
    NothingSeen,
    #[error(transparent)]
    Question(#[from] QuestionError),
}

const AFTERWORD: &str = "\
It asks /cgi-bin/openapi/quota/get, once for each path, and each question is a call that WeChat counts. The questions \
go the way of wechat-sidecar call: through the sidecar that runs, or through the same engine in this process. A \
sidecar that runs keeps the answers for its metrics and its status page.

Exit codes: 0 done, 1 failed or WeChat answered with an error code, 64 wrong usage or configuration.";

/// The subcommand.
pub(super) fn command() -> Command {
    Command::new("quota")
        .about("Ask WeChat how many calls of an endpoint are left today")
        .args([
            Arg::new("path")
                .value_name("PATH")
                .num_args(0..)
                .action(ArgAction::Append)
                .required_unless_present("all-seen")
                .help("The endpoints, such as /cgi-bin/message/custom/send"),
            Arg::new("all-seen")
                .long("all-seen")
                .action(ArgAction::SetTrue)
                .conflicts_with("path")
                .help("Ask about every endpoint that the running sidecar has called, at most 64"),
            account_argument(),
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print WeChat's answers as one JSON array"),
        ])
        .after_help(AFTERWORD)
}

/// What the arguments ask for.
pub(super) fn options(matches: &ArgMatches) -> Result<QuotaOptions, QuotaUsageError> {
    let paths = matches.get_many::<String>("path").into_iter().flatten();
    let paths: Vec<String> = paths.cloned().collect();
    let is_odd =
        |letter: char| "?:".contains(letter) || letter.is_whitespace() || letter.is_control();
    let is_path = |path: &String| path.starts_with('/') && !path.contains(is_odd);
    if let Some(at) = paths.iter().position(|path| !is_path(path)) {
        return Err(QuotaUsageError::Path(at + 1));
    }
    Ok(QuotaOptions {
        paths,
        account: account(matches).map_err(|_| QuotaUsageError::Account)?,
        json: matches.get_flag("json"),
    })
}

/// Asks. The exit code is 0 if WeChat answered each question without an error.
///
/// # Errors
/// If the configuration is wrong.
pub(super) async fn quota(
    options: QuotaOptions,
    sources: Sources,
) -> Result<ExitCode, ConfigError> {
    match ask(&options, sources).await {
        Ok(answers) => Ok(show(&answers, options.json)),
        Err(QuotaError::Config(error) | QuotaError::Question(QuestionError::Config(error))) => {
            Err(error)
        }
        Err(error) => Ok(failed(&format!("quota: {error}"))),
    }
}

/// The paths, each with what WeChat answered.
async fn ask(
    options: &QuotaOptions,
    sources: Sources,
) -> Result<Vec<(String, Vec<u8>)>, QuotaError> {
    let paths = match options.paths.is_empty() {
        true => seen(options, &sources).await?,
        false => options.paths.clone(),
    };
    let questions = Questions::at(QUOTA_GET, options.account.clone(), sources).await?;
    let mut answers = Vec::new();
    for path in paths {
        let answer = questions.ask(&json!({ "cgi_path": path })).await?;
        answers.push((path, answer));
    }
    Ok(answers)
}

/// The endpoints that the running sidecar has called for the account.
async fn seen(options: &QuotaOptions, sources: &Sources) -> Result<Vec<String>, QuotaError> {
    let AdminPort { address, doubt } = AdminPort::find(sources)?;
    if let Some(doubt) = doubt {
        eprint(&doubt);
    }
    let account = options.account.as_ref();
    let query = account.map(|name| format!("?account={name}"));
    let target = format!("/quota{}", query.unwrap_or_default());
    let reply = request(address, Method::GET, &target).await;
    let reply = reply.map_err(QuotaError::Admin)?;
    let AdminReply { status: 200, body } = &reply else {
        return Err(QuotaError::NotSaid(reply.sentence()));
    };
    let page: Value = serde_json::from_str(body).unwrap_or_default();
    let called = page.get("called").and_then(Value::as_array);
    let called = called.into_iter().flatten().filter_map(Value::as_str);
    let called: Vec<String> = called.map(str::to_owned).collect();
    match called.is_empty() {
        true => Err(QuotaError::NothingSeen),
        false => Ok(called),
    }
}

fn show(answers: &[(String, Vec<u8>)], json: bool) -> ExitCode {
    let lang = Lang::of_environment(|name| env::var(name).ok());
    let parsed = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap_or_default();
    let all = answers.iter().map(|(path, body)| (path, parsed(body)));
    let all: Vec<(&String, Value)> = all.collect();
    let text = match json {
        true => {
            let all = all.iter().map(|(path, answer)| with_path(path, answer));
            format!("{:#}\n", Value::Array(all.collect()))
        }
        false => {
            let rows = all.iter().map(|(path, answer)| row(path, answer));
            table(
                &[HEADINGS.map(str::to_owned)]
                    .into_iter()
                    .chain(rows)
                    .collect::<Vec<_>>(),
            )
        }
    };
    let mut code = print(&text);
    for ((path, body), (_, answer)) in answers.iter().zip(&all) {
        let problem = explain::in_one_line(body, lang);
        let is_answer = answer.get("quota").is_some();
        if let Some(problem) = problem.or((!is_answer).then(|| "no answer of WeChat's".to_owned()))
        {
            eprint(&format!("quota: {path}: {problem}"));
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn with_path(path: &str, answer: &Value) -> Value {
    let mut all = json!({ "path": path });
    if let (Some(all), Some(answer)) = (all.as_object_mut(), answer.as_object()) {
        all.extend(answer.clone());
    }
    all
}

const HEADINGS: [&str; 6] = ["PATH", "USED", "LIMIT", "LEFT", "RATE", "RATE BY PLATFORMS"];

fn row(path: &str, answer: &Value) -> [String; 6] {
    let number = |name: &str| {
        let number = answer.pointer(&format!("/quota/{name}"));
        number
            .and_then(Value::as_u64)
            .map_or("-".to_owned(), |number| number.to_string())
    };
    let rate = |name: &str| {
        let field = |field: &str| answer.get(name)?.get(field)?.as_u64();
        match (field("call_count"), field("refresh_second")) {
            (Some(calls), Some(seconds)) => format!("{calls} in {seconds} s"),
            _ => "-".to_owned(),
        }
    };
    [
        path.to_owned(),
        number("used"),
        number("daily_limit"),
        number("remain"),
        rate("rate_limit"),
        rate("component_rate_limit"),
    ]
}

/// The rows in columns. Numbers stand at the right.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let mut text = String::new();
    for row in rows {
        let cell = |(column, cell): (usize, &String)| match column {
            1..=3 => format!("{cell:>0$}", widths[column]),
            _ => format!("{cell:<0$}", widths[column]),
        };
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wechat_does_not_say_is_a_dash() {
        let answer = json!({
            "quota": { "daily_limit": 100_000, "used": 7, "remain": 99_993 },
            "rate_limit": { "call_count": 1000, "refresh_second": 60 },
        });
        let rows = [
            HEADINGS.map(str::to_owned),
            row("/a", &answer),
            row("/bb", &Value::Null),
        ];
        let expected = "\
PATH  USED   LIMIT   LEFT  RATE          RATE BY PLATFORMS
/a       7  100000  99993  1000 in 60 s  -
/bb      -       -      -  -             -
";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn a_path_is_one_line_of_a_table() {
        for (path, is_path) in [
            ("/cgi-bin/user/info", true),
            ("cgi-bin/user/info", false),
            ("/a?b", false),
            ("https://api.weixin.qq.com/a", false),
            ("/a b", false),
            ("/a\n", false),
            ("/a\u{1b}[2J", false),
            ("/a\u{9b}2J", false),
        ] {
            let matches = command().try_get_matches_from(["quota", path]).unwrap();
            assert_eq!(options(&matches).is_ok(), is_path, "{path:?}");
        }
    }
}
