//! The command line: subcommands, a flag for each key, help and version.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};
use tokio::time::Duration;

use super::{
    ca,
    call::{self, CallUsageError},
    check::CheckOptions,
    explain::{self, ArgumentError},
    flag::flag,
    k8s_args,
    manual::{self, ManualError},
    operation::{Operation, Until},
    quota::{self, QuotaUsageError},
    revoke,
    rid::{self, RidUsageError},
};
use crate::{
    config::{
        error::{ConfigError, Provenance},
        keys::{self, Id, Key},
    },
    settings::parse,
};

/// A parsed command line.
#[derive(Clone)]
#[allow(missing_debug_implementations)] // A value may be a URL with a password.
pub struct Invocation {
    /// What to do.
    pub operation: Operation,
    /// The keys that were given as flags, with their values, not parsed yet.
    pub flags: Vec<(Id, Vec<String>)>,
}

/// Why a command line is not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// It asks for help or the version. This is the text.
    Said(String),
    /// It is wrong. This is the problem.
    Wrong(String),
}

/// Mistakes in arguments.
macro_rules! wrong_usage {
    ($($error:ty),+) => {
        $(impl From<$error> for UsageError {
            fn from(error: $error) -> Self {
                Self::Wrong(error.to_string())
            }
        })+
    };
}

wrong_usage!(ConfigError, ArgumentError, CallUsageError, ManualError);
wrong_usage!(QuotaUsageError, RidUsageError);

/// Parses a command line, which begins with the name of the program.
pub fn parse<I>(args: I) -> Result<Invocation, UsageError>
where
    I: IntoIterator<Item = OsString>,
{
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = command()
        .try_get_matches_from(&args)
        .map_err(|error| answer(&error, &args))?;
    let (name, inner) = matches.subcommand().unwrap_or(("serve", &matches));
    let operation = operation(name, inner)?;
    let flags = flags(&matches, name, inner)?;
    Ok(Invocation { operation, flags })
}

/// The keys that are given before the subcommand or behind it.
fn flags(
    outer: &ArgMatches,
    name: &str,
    inner: &ArgMatches,
) -> Result<Vec<(Id, Vec<String>)>, UsageError> {
    let mut flags = Vec::new();
    for key in keys::keys() {
        let known = inner.try_contains_id(key.name).is_ok();
        match (texts(inner, key), texts(outer, key)) {
            (Some(texts), _) => flags.push((key.id, texts)),
            (None, Some(_)) if !known => {
                return Err(UsageError::Wrong(format!("{name} takes no --{}", key.name)));
            }
            (None, Some(texts)) => flags.push((key.id, texts)),
            (None, None) => {}
        }
    }
    Ok(flags)
}

fn operation(name: &str, matches: &ArgMatches) -> Result<Operation, UsageError> {
    Ok(match name {
        "check" => Operation::Check(CheckOptions {
            mint: matches.get_flag("mint"),
            json: matches.get_flag("json"),
        }),
        "call" => Operation::Call(Box::new(call::options(matches)?)),
        "quota" => Operation::Quota(quota::options(matches)?),
        "rid" => Operation::Rid(rid::options(matches)?),
        "health" => Operation::Health,
        "wait" => Operation::Wait {
            until: match matches.get_flag("started") {
                true => Until::Started,
                false => Until::Ready,
            },
            timeout: time_to_wait(matches)?,
        },
        "revoke" => Operation::Revoke(revoke::options(matches)?),
        "shutdown" => Operation::Shutdown,
        "ca" => Operation::Ca(ca::output(matches)?),
        "explain" => Operation::Explain(explain::options(matches)?),
        #[cfg(feature = "fake")]
        "fake" => Operation::Fake(Box::new(super::fake::options(matches)?)),
        "completions" => Operation::Completions(manual::shell(matches)?),
        "man" => Operation::Man(manual::pages(matches, &shown())?),
        "inject" | "webhook" | "webhook-certs" => k8s_args::operation(name, matches)?,
        _ => Operation::Serve,
    })
}

fn time_to_wait(matches: &ArgMatches) -> Result<Duration, ConfigError> {
    let text = matches
        .get_one::<String>("timeout")
        .map_or("30s", String::as_str);
    parse::duration(text).map_err(|problem| {
        ConfigError::new(
            Provenance::Flag("timeout"),
            format!("the value {problem}; for example 30s"),
        )
    })
}

fn texts(matches: &ArgMatches, key: &Key) -> Option<Vec<String>> {
    let texts = matches.try_get_many::<String>(key.name).ok()??;
    Some(texts.cloned().collect())
}

/// Clap's message, without arguments that may contain a password.
fn answer(error: &clap::Error, args: &[OsString]) -> UsageError {
    let mut text = error.to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return UsageError::Said(text);
    }
    for argument in args.iter().filter_map(|argument| argument.to_str()) {
        let value = argument
            .split_once('=')
            .map_or(argument, |(_, value)| value);
        if argument.contains("://") || argument.contains('@') {
            text = text
                .replace(argument, "[hidden]")
                .replace(value, "[hidden]");
        }
    }
    UsageError::Wrong(text.trim_start_matches("error: ").trim_end().to_owned())
}

/// The command line for clap. Clap checks no values, because its messages would repeat them.
pub fn command() -> Command {
    assembled(true)
}

/// The same without the flags that a subcommand takes and does not show.
pub(super) fn shown() -> Command {
    assembled(false)
}

fn assembled(with_hidden: bool) -> Command {
    let of_sidecars = sidecars().map(|(command, own)| command.args(flags_of(own, with_hidden)));
    let whole = Command::new("wechat-sidecar")
        .version(format!("{} (commit {})", crate::VERSION, crate::COMMIT))
        .about("A reverse proxy beside your app that appends WeChat's access_token, renews it, and heals an expiry")
        .after_help(AFTERWORD)
        .args(keys::keys().iter().map(flag))
        .subcommands(of_sidecars)
        .subcommand(explain::command());
    #[cfg(feature = "fake")]
    let whole = whole.subcommand(super::fake::command());
    whole
        .subcommands(k8s_args::subcommands())
        .subcommands(manual::subcommands())
}

/// The subcommands that take the keys of the sidecar, and the keys that their help shows; `None` for all.
fn sidecars() -> [(Command, Option<&'static [Id]>); 10] {
    let check = Command::new("check")
        .about("Say what works and what does not: configuration, files, limits, network and tokens")
        .args([mint(), json()])
        .after_help(OF_CHECK);
    let health = Command::new("health")
        .about("Ask a running sidecar whether it is alive, for images without a shell")
        .after_help(OF_PROBES);
    let wait = Command::new("wait")
        .about("Wait until a running sidecar is ready")
        .args([started(), timeout()])
        .after_help(OF_PROBES);
    let shutdown = Command::new("shutdown")
        .about("Ask a running sidecar to stop; takes --enable-shutdown")
        .after_help(OF_PROBES);
    let serve = Command::new("serve").about("Serve apps; this is the default");
    [
        (serve.after_help(AFTERWORD), None),
        (check, Some(&CHECKED)),
        (call::command(), Some(&CALLED)),
        (quota::command(), Some(&CALLED)),
        (rid::command(), Some(&CALLED)),
        (health, Some(&ASKED)),
        (wait, Some(&ASKED)),
        (revoke::command(), Some(&ASKED)),
        (shutdown, Some(&ASKED)),
        (ca::command(), Some(&OF_CA)),
    ]
}

/// The flags of the keys. Those that are not in `own` are hidden, or left out.
fn flags_of(own: Option<&[Id]>, with_hidden: bool) -> Vec<Arg> {
    let is_shown = |key: &Key| own.is_none_or(|own| own.contains(&key.id));
    let taken = keys::keys()
        .iter()
        .filter(|key| with_hidden || is_shown(key));
    taken.map(|key| flag(key).hide(!is_shown(key))).collect()
}

/// The keys that say which sidecar to ask.
const ASKED: [Id; 2] = [Id::Admin, Id::Config];

/// The keys that say where the root of the local CA is.
const OF_CA: [Id; 3] = [Id::TrustDir, Id::CaDir, Id::Config];

/// The keys that say through which sidecar to call.
const CALLED: [Id; 4] = [Id::Admin, Id::Listen, Id::CallerKeyFile, Id::Config];

/// The keys that decide what `check` meets: ports, the way to WeChat, tokens and the store.
const CHECKED: [Id; 18] = [
    Id::Listen,
    Id::Admin,
    Id::Upstream,
    Id::UpstreamCa,
    Id::UpstreamAddress,
    Id::EgressProxy,
    Id::EgressProxyCredentialsFile,
    Id::SkipHostsFile,
    Id::ConnectTimeout,
    Id::UpstreamTimeout,
    Id::TokenApi,
    Id::Store,
    Id::StorePasswordFile,
    Id::StoreAuthFile,
    Id::StoreCaFile,
    Id::StoreFormat,
    Id::StorePrefix,
    Id::Config,
];

const OF_CHECK: &str = "\
It takes all other keys of the sidecar, too, and says what is wrong with them; \
wechat-sidecar help serve lists them.

Exit codes: 0 all works, 1 something does not, 64 wrong usage or configuration.";

const OF_PROBES: &str = "\
It takes all other keys of the sidecar, too, and looks at none of them.

Exit codes: 0 done, 1 failed, 64 wrong usage.";

const AFTERWORD: &str = "\
Each flag is also an environment variable, named WECHAT_SIDECAR_ and the flag in upper snake case,
and a key of the TOML file that --config names. A flag beats the environment, which beats the file.

The credentials of one account come from the environment: WECHAT_APPID, and WECHAT_SECRET_FILE (the
path of a file, which is read again at each token request) or WECHAT_SECRET. Several accounts are
listed in the TOML file, under [[accounts]].

Exit codes: 0 done, 1 failed, 64 wrong usage or configuration.";

fn mint() -> Arg {
    Arg::new("mint")
        .long("mint")
        .action(ArgAction::SetTrue)
        .help("Request a token in any case, even a classic one, which ends the token of everybody else")
}

fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print what was found as one JSON document")
}

fn started() -> Arg {
    Arg::new("started")
        .long("started")
        .action(ArgAction::SetTrue)
        .help("Wait only for the end of the first token request, whether it succeeds or fails")
}

fn timeout() -> Arg {
    Arg::new("timeout")
        .long("timeout")
        .value_name("DURATION")
        .help("How long to wait at most [default: 30s]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsing(line: &str) -> Result<Invocation, UsageError> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn flags_stand_before_or_after_the_subcommand() {
        command().debug_assert();
        for line in [
            "x --listen a --listen b --unsafe-listen",
            "x serve --listen a --listen b --unsafe-listen=true",
        ] {
            let Invocation { operation, flags } =
                parsing(line).unwrap_or_else(|_| panic!("{line}"));
            assert!(matches!(operation, Operation::Serve));
            let list = |texts: &[&str]| {
                texts
                    .iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                flags,
                [
                    (Id::Listen, list(&["a", "b"])),
                    (Id::UnsafeListen, list(&["true"]))
                ]
            );
        }
        let invocation = parsing("x --admin a check --mint").unwrap_or_else(|_| panic!());
        assert!(matches!(
            invocation.operation,
            Operation::Check(CheckOptions {
                mint: true,
                json: false
            })
        ));
        assert_eq!(invocation.flags, [(Id::Admin, vec!["a".to_owned()])]);
        let wait = parsing("x wait --timeout 1s")
            .unwrap_or_else(|_| panic!())
            .operation;
        let Operation::Wait { until, timeout } = wait else {
            panic!("{wait:?}")
        };
        assert_eq!((until, timeout), (Until::Ready, Duration::from_secs(1)));
        let Err(UsageError::Wrong(problem)) = parsing("x --upstream a inject -f -") else {
            panic!("a key of the sidecar's is none of inject's")
        };
        assert!(problem.contains("--upstream"), "{problem}");
    }

    #[test]
    fn a_password_in_a_wrong_command_line_is_not_repeated() {
        for line in [
            "x https://u:HUNTER2@h",
            "x serve https://u:HUNTER2@h",
            "x --upstrem=https://u:HUNTER2@h",
            "x --upstrem https://u:HUNTER2@h",
            "x -uhttps://u:HUNTER2@h",
            "x --upstream a --upstream https://u:HUNTER2@h",
            "x --upstream -- https://u:HUNTER2@h",
            "x --upstream=a https://u:HUNTER2@h",
            "x --mint=https://u:HUNTER2@h",
            "x check --mint=https://u:HUNTER2@h",
            "x wait --timeout https://u:HUNTER2@h",
            "x --secret=HUNTER2",
            "x --secret HUNTER2=",
        ] {
            let Err(UsageError::Wrong(text)) = parsing(line) else {
                panic!("{line}")
            };
            assert!(
                !text.contains("HUNTER2") || line.ends_with('='),
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        for line in ["x --help", "x -h", "x --version", "x -V", "x check --help"] {
            assert!(matches!(parsing(line), Err(UsageError::Said(_))), "{line}");
        }
    }
}
