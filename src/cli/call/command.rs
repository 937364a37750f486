//! The subcommand's arguments. What they say may be private, so that no error repeats it.

use std::{fmt, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use http::{
    HeaderName, HeaderValue, Method,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use tokio::time::Duration;

use super::{
    field::{Field, FieldError},
    input::Input,
    target::{CallTarget, TargetUsageError},
};
use crate::settings::parse;

/// The call to make, and what to do with its reply.
#[derive(Clone)]
pub struct CallOptions {
    pub(super) target: CallTarget,
    pub(super) method: Option<Method>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) payload: Payload,
    /// The AppID or the name of the account.
    pub(super) account: Option<String>,
    /// The file for the reply's body; `None` for stdout.
    pub(super) output: Option<PathBuf>,
    /// Whether the reply's head is shown.
    pub(super) head: bool,
    pub(super) verbose: bool,
    /// Whether a classic token may be requested.
    pub(super) mint: bool,
    pub(super) timeout: Option<Duration>,
}

/// What the call carries.
#[derive(Clone)]
pub(super) enum Payload {
    Nothing,
    Data(Input),
    Form(Vec<Field>),
}

impl CallOptions {
    /// A POST of JSON to `target`.
    pub(super) fn question(target: CallTarget, body: String, account: Option<String>) -> Self {
        Self {
            target,
            method: None,
            headers: Vec::new(),
            payload: Payload::Data(Input::Text(body)),
            account,
            output: None,
            head: false,
            verbose: false,
            mint: false,
            timeout: None,
        }
    }
}

impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOptions").finish_non_exhaustive()
    }
}

/// Why the arguments of `call` make no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallUsageError {
    /// The path or a parameter.
    #[error("call: {0}")]
    Target(#[from] TargetUsageError),
    /// The method is no word.
    #[error("call: --request: the value is no method; for example DELETE")]
    Method,
    /// This header, counted from 1.
    #[error("call: --header: number {0} is none; write it as 'Name: value'")]
    Header(usize),
    /// A header that would change where the body ends.
    #[error("call: --header: the length of the body is set by call itself")]
    Framing,
    /// This field, counted from 1.
    #[error("call: --form: number {0}: {1}")]
    Field(usize, FieldError),
    /// The time limit.
    #[error("call: --timeout: the value is not a duration with its unit; for example 30s")]
    Timeout,
    /// The account can be no AppID or name.
    #[error("call: --account: the value is no AppID and no name")]
    Account,
}

const AFTERWORD: &str = "\
The call goes through the sidecar that runs beside it, as --admin finds it, or through the same engine in this \
process where none runs. There, a classic token is requested only with --mint. It takes all other keys of the \
sidecar, too; wechat-sidecar help serve lists them.

On a terminal JSON is indented. Into a pipe or a file the body goes as it is.

Examples:
  wechat-sidecar call /cgi-bin/user/get next_openid=
  wechat-sidecar call /cgi-bin/menu/create -d @menu.json
  wechat-sidecar call /cgi-bin/media/upload type=image -F media=@photo.jpg
  wechat-sidecar call /cgi-bin/media/get media_id=ID -o photo.jpg

Exit codes: 0 done, 1 failed or WeChat answered with an error code, 64 wrong usage or configuration.";

/// The subcommand.
pub(in crate::cli) fn command() -> Command {
    Command::new("call")
        .about("Call an endpoint of WeChat's API with the account's token, and print the reply")
        .args([
            Arg::new("path").value_name("PATH").required(true).help(
                "The path, such as /cgi-bin/user/get; with an account's AppID or name before it if wanted",
            ),
            Arg::new("parameter")
                .value_name("NAME=VALUE")
                .num_args(0..)
                .action(ArgAction::Append)
                .help("Parameters of the query, which are encoded as they must be"),
        ])
        .args([
            taking("data", 'd', "DATA")
                .conflicts_with("form")
                .help("POST this body; @FILE takes it from a file, and @- from stdin, byte for byte"),
            taking("form", 'F', "NAME=VALUE")
                .action(ArgAction::Append)
                .help("POST a field of a form; NAME=@FILE uploads a file, ;type=… and ;filename=… behind it say as what; repeatable"),
            taking("request", 'X', "METHOD").help("The method [default: GET, or POST with a body]"),
            taking("header", 'H', "HEADER")
                .action(ArgAction::Append)
                .help("One more header of the call: 'Name: value'; repeatable"),
            taking("output", 'o', "FILE").help("Write the reply's body to a file"),
            switch("include", 'i').help("Print the reply's status and headers first"),
            switch("verbose", 'v').help("Say on stderr which way the call went, and whether it was sent twice"),
        ])
        .args([
            account_argument(),
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .help("How long the call and its reply may take [default: as long as the sidecar waits]"),
            Arg::new("mint")
                .long("mint")
                .action(ArgAction::SetTrue)
                .help("Request even a classic token if no sidecar runs, which ends the token of everybody else"),
        ])
        .after_help(AFTERWORD)
}

/// The argument that names the account.
pub(in crate::cli) fn account_argument() -> Arg {
    Arg::new("account")
        .long("account")
        .value_name("ACCOUNT")
        .help("The AppID or the name of the account, where there are several")
}

/// The account that it names.
pub(in crate::cli) fn account(matches: &ArgMatches) -> Result<Option<String>, CallUsageError> {
    let account = matches.get_one::<String>("account");
    match account.map(|word| HeaderValue::from_str(word)) {
        Some(Err(_)) => Err(CallUsageError::Account),
        _ => Ok(account.cloned()),
    }
}

fn taking(name: &'static str, short: char, value: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).short(short).value_name(value);
    arg.allow_hyphen_values(true)
}

fn switch(name: &'static str, short: char) -> Arg {
    let arg = Arg::new(name).long(name).short(short);
    arg.action(ArgAction::SetTrue)
}

/// What the arguments ask for.
pub(in crate::cli) fn options(matches: &ArgMatches) -> Result<CallOptions, CallUsageError> {
    let text = |name| matches.get_one::<String>(name).map(String::as_str);
    let texts = |name| matches.get_many::<String>(name).into_iter().flatten();
    let target = CallTarget::new(text("path").unwrap_or_default(), texts("parameter"))?;
    let method = text("request").map(|word| Method::from_bytes(word.as_bytes()));
    let method = method.transpose().map_err(|_| CallUsageError::Method)?;
    let mut headers = Vec::new();
    for (at, line) in texts("header").enumerate() {
        headers.push(header(line, at + 1)?);
    }
    let mut fields = Vec::new();
    for (at, field) in texts("form").enumerate() {
        let field = Field::parse(field).map_err(|error| CallUsageError::Field(at + 1, error));
        fields.push(field?);
    }
    let payload = match text("data") {
        Some(data) => Payload::Data(Input::parse(data)),
        None if fields.is_empty() => Payload::Nothing,
        None => Payload::Form(fields),
    };
    let timeout = text("timeout").map(parse::duration).transpose();
    Ok(CallOptions {
        target,
        method,
        headers,
        payload,
        account: account(matches)?,
        output: text("output")
            .filter(|path| *path != "-")
            .map(PathBuf::from),
        head: matches.get_flag("include"),
        verbose: matches.get_flag("verbose"),
        mint: matches.get_flag("mint"),
        timeout: timeout.map_err(|_| CallUsageError::Timeout)?,
    })
}

fn header(line: &str, at: usize) -> Result<(HeaderName, HeaderValue), CallUsageError> {
    let wrong = || CallUsageError::Header(at);
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
        return Err(CallUsageError::Framing);
    }
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}
