//! `rid`: asks WeChat what it remembers of a call that it answered with an error.

use std::{env, process::ExitCode, time::SystemTime};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use tokio::time::Duration;

use super::{
    call::{QuestionError, Questions, account, account_argument},
    explain, failed, hidden,
    output::{eprint, print},
};
use crate::{
    config::{ConfigError, Sources},
    lang::Lang,
    wechat::errcode,
};

/// Tells what WeChat remembers of a call.
const RID_GET: &str = "/cgi-bin/openapi/rid/get";

/// What to ask.
#[derive(Clone, Debug)]
pub struct RidOptions {
    rids: Vec<String>,
    account: Option<String>,
    json: bool,
}

/// Why the arguments of `rid` ask nothing. They are not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RidUsageError {
    /// This argument, counted from 1.
    #[error(
        "rid: argument {0} is neither a rid, such as 61725984-6126f6f9-040f19c4, nor the body of a reply with one"
    )]
    Rid(usize),
    /// The account can be no AppID or name.
    #[error("rid: --account: the value is no AppID and no name")]
    Account,
}

const AFTERWORD: &str = "\
It asks /cgi-bin/openapi/rid/get, and each question is a call that WeChat counts. WeChat remembers a call for 7 days, \
and tells only the account whose call it was. The question goes the way of wechat-sidecar call. Credentials in the \
answer are hidden; all else in it is what the app sent.

Exit codes: 0 done, 1 failed or WeChat answered with an error code, 64 wrong usage or configuration.";

/// The subcommand.
pub(super) fn command() -> Command {
    Command::new("rid")
        .about("Ask WeChat what it remembers of a call that it answered with an error")
        .args([
            Arg::new("rid")
                .value_name("RID")
                .required(true)
                .num_args(1..)
                .action(ArgAction::Append)
                .help("The rid in an errmsg, or the whole body of the reply in quotes; repeatable"),
            account_argument(),
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print WeChat's answers as one JSON array"),
        ])
        .after_help(AFTERWORD)
}

/// What the arguments ask for.
pub(super) fn options(matches: &ArgMatches) -> Result<RidOptions, RidUsageError> {
    let given = matches.get_many::<String>("rid").into_iter().flatten();
    let mut rids = Vec::new();
    for (at, argument) in given.enumerate() {
        let rid = errcode::rid(argument.as_bytes()).unwrap_or(argument.trim());
        let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        if rid.is_empty() || rid.len() > 64 || !rid.bytes().all(is_plain) {
            return Err(RidUsageError::Rid(at + 1));
        }
        rids.push(rid.to_owned());
    }
    Ok(RidOptions {
        rids,
        account: account(matches).map_err(|_| RidUsageError::Account)?,
        json: matches.get_flag("json"),
    })
}

/// Asks. The exit code is 0 if WeChat answered each question without an error.
///
/// # Errors
/// If the configuration is wrong.
pub(super) async fn rid(options: RidOptions, sources: Sources) -> Result<ExitCode, ConfigError> {
    match ask(&options, sources).await {
        Ok(answers) => Ok(show(&answers, options.json)),
        Err(QuestionError::Config(error)) => Err(error),
        Err(error) => Ok(failed(&format!("rid: {error}"))),
    }
}

/// The rids, each with what WeChat answered.
async fn ask(
    options: &RidOptions,
    sources: Sources,
) -> Result<Vec<(String, Vec<u8>)>, QuestionError> {
    let questions = Questions::at(RID_GET, options.account.clone(), sources).await?;
    let mut answers = Vec::new();
    for rid in &options.rids {
        let answer = questions.ask(&json!({ "rid": rid })).await?;
        answers.push((rid.clone(), answer));
    }
    Ok(answers)
}

fn show(answers: &[(String, Vec<u8>)], json: bool) -> ExitCode {
    let lang = Lang::of_environment(|name| env::var(name).ok());
    let all = answers.iter().map(|(rid, body)| cleaned(rid, body));
    let all: Vec<Value> = all.collect();
    let text = match json {
        true => format!("{:#}\n", Value::Array(all.clone())),
        false => {
            let texts = all.iter().filter(|answer| answer.get("request").is_some());
            texts.map(described).collect::<Vec<_>>().join("\n")
        }
    };
    let mut code = print(&text);
    for ((rid, body), answer) in answers.iter().zip(&all) {
        let problem = explain::in_one_line(body, lang);
        let is_answer = answer.get("request").is_some();
        if let Some(problem) = problem.or((!is_answer).then(|| "no answer of WeChat's".to_owned()))
        {
            eprint(&format!("rid: {rid}: {problem}"));
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// The answer without credentials, and with its rid.
fn cleaned(rid: &str, body: &[u8]) -> Value {
    let mut answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let fields = answer
        .pointer_mut("/request")
        .and_then(Value::as_object_mut);
    for (name, value) in fields.into_iter().flatten() {
        if let Some(text) = value.as_str() {
            *value = match name.as_str() {
                "request_url" => hidden::query(text).into(),
                _ => hidden::body(text).into(),
            };
        }
    }
    let mut all = json!({ "rid": rid });
    if let (Some(all), Some(answer)) = (all.as_object_mut(), answer.as_object()) {
        all.extend(answer.clone());
    }
    all
}

/// What a person reads of an answer.
fn described(answer: &Value) -> String {
    let field = |name: &str| answer.pointer(&format!("/request/{name}"));
    let text = |name: &str| {
        let text = field(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty());
        text.map(|text| text.replace(char::is_control, " "))
    };
    let number = |name: &str| field(name).and_then(Value::as_u64);
    let time = number("invoke_time").map(|seconds| {
        // Later times are no times.
        let seconds = Duration::from_secs(seconds.min(1 << 36));
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + seconds).to_string()
    });
    let rid = answer
        .get("rid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut described = format!("rid: {rid}\n");
    for (name, value) in [
        ("called at", time),
        (
            "took",
            number("cost_in_ms").map(|millis| format!("{millis} ms")),
        ),
        ("from", text("client_ip")),
        ("query", text("request_url")),
        ("body", text("request_body")),
        ("reply", text("response_body")),
    ] {
        if let Some(value) = value {
            described += &format!("  {name}: {value}\n");
        }
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_shown_without_credentials_and_control_characters() {
        let body = json!({
            "errcode": 0,
            "request": {
                "invoke_time": 1_635_156_704,
                "cost_in_ms": 30,
                "request_url": "access_token=SECRET&a=1",
                "request_body": "",
                "response_body": "{\"errcode\":45009}\u{1b}[2J",
                "client_ip": "113.66.70.51",
            },
        });
        let answer = cleaned("1-2-3", body.to_string().as_bytes());
        let expected = "\
rid: 1-2-3
  called at: 2021-10-25T10:11:44Z
  took: 30 ms
  from: 113.66.70.51
  query: access_token=[hidden]&a=1
  reply: {\"errcode\":45009} [2J
";
        assert_eq!(described(&answer), expected);
        assert!(!answer.to_string().contains("SECRET"));
    }
}
