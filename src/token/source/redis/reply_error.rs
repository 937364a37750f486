//! Turns errors of Redis into ones that tell an operator what to do, and tells what becomes of the connection.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::script::command_in;
use crate::token::source::store::StoreError;

/// What an error means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays in use.
    Kept,
    /// It is no longer usable.
    Lost,
    /// The server at its other end may no longer be the primary, while another one is by now. Failovers often
    /// leave connections to the old primary open.
    Demoted,
}

/// What servers answer that are not the primary, or not yet.
const DEMOTED: [&str; 4] = ["READONLY", "MASTERDOWN", "NOREPLICAS", "LOADING"];

/// What `error` means for the connection.
pub(super) fn fate(error: &RedisError) -> Fate {
    if error.is_io_error() || error.is_unrecoverable_error() || error.is_timeout() {
        Fate::Lost
    } else if DEMOTED.iter().any(|code| is(error, code)) {
        Fate::Demoted
    } else {
        Fate::Kept
    }
}

/// Whether Redis answered with `code`. If a command fails inside a script, older versions of Redis put its code
/// into the text.
fn is(error: &RedisError, code: &str) -> bool {
    let detail = error.detail().unwrap_or_default();
    error.code() == Some(code) || detail.contains(code)
}

/// The error of `script`, or of a single command if that is empty. It has nothing that was written or read.
pub(super) fn store_error(error: &RedisError, script: &str) -> StoreError {
    let detail = error.detail().unwrap_or_default();
    let is = |code: &str| is(error, code);
    if let Some(forbidden) = forbidden(error.code(), detail, script) {
        return forbidden;
    }
    let text = match error.kind() {
        ErrorKind::AuthenticationFailed => CREDENTIALS,
        _ if error.is_timeout() => return StoreError::NoReply,
        ErrorKind::Io => "the connection to it broke",
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            "it is a node of a Redis Cluster (MOVED), which this program does not speak to: \
             name a Redis that is not in cluster mode, or a proxy before the cluster"
        }
        _ if is("NOAUTH") || is("WRONGPASS") => CREDENTIALS,
        _ if is("READONLY") => "it is read-only (READONLY): name the primary, not a replica",
        _ if is("MASTERDOWN") => {
            "it is a replica that has lost its primary (MASTERDOWN): name the primary"
        }
        _ if is("NOREPLICAS") => "it takes no writes for want of replicas (NOREPLICAS)",
        _ if is("WRONGTYPE") => {
            "a key of this program's own beside the token is no string (WRONGTYPE): delete the keys \
             that begin with wechat-sidecar, or with store-prefix"
        }
        _ if is("MISCONF") => "it takes no writes because it cannot save (MISCONF)",
        _ if is("OOM") => "it has no memory left (OOM)",
        _ if is("LOADING") => "it is still loading (LOADING)",
        _ => {
            let code = error.code().unwrap_or("an answer without sense");
            return StoreError::Reply(code.to_owned());
        }
    };
    StoreError::Redis(text)
}

const CREDENTIALS: &str = "it refused the log-in: see store-password-file, and store-auth-file for a \
    Redis that takes account:password as its password";

const FORBIDDEN: &str = "its ACL forbids a command (NOPERM): allow all that 'ACL' in the documents on \
    replicas lists";

/// What an ACL forbids, if it is that. Redis names the command, except that versions 6 and 7.0 name only the line of
/// the script that called it.
fn forbidden(code: Option<&str>, detail: &str, script: &str) -> Option<StoreError> {
    // These come without the code NOPERM.
    const TEXTS: [&str; 3] = [
        "ACL failure in script",
        "The user executing the script can't",
        "has no permissions to run the",
    ];
    if code != Some("NOPERM") && !TEXTS.iter().any(|text| detail.contains(text)) {
        return None;
    }
    let named = named(detail);
    if named.is_none() && detail.contains(" access ") && detail.contains(" key") {
        return Some(StoreError::ForbiddenKey);
    }
    Some(match named.or_else(|| called(detail, script)) {
        Some(command) => StoreError::ForbiddenCommand(command.to_ascii_uppercase()),
        None => StoreError::Redis(FORBIDDEN),
    })
}

/// The command between quotes behind `run the`.
fn named(detail: &str) -> Option<&str> {
    let (_, rest) = detail.split_once("run the '")?;
    let command = rest.split('\'').next()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'|';
    (!command.is_empty() && command.len() < 32 && command.bytes().all(plain)).then_some(command)
}

/// The command in the line of the script that the text names at its end: `@user_script:3.` or `@user_script: 3:`.
fn called<'a>(detail: &str, script: &'a str) -> Option<&'a str> {
    let (_, rest) = detail.rsplit_once("@user_script:")?;
    let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit());
    let line: usize = digits.into_iter().next()?.parse().ok()?;
    command_in(script.lines().nth(line.checked_sub(1)?)?)
}

#[cfg(test)]
mod tests {
    use redis::{RedisResult, Value, parse_redis_value};

    use super::*;

    /// The error that a line of Redis becomes.
    fn error(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let read: RedisResult<Value> = value.extract_error();
        read.unwrap_err()
    }

    #[test]
    fn a_server_that_is_not_the_primary_loses_its_connection() {
        for (line, expected) in [
            (
                "READONLY You can't write against a read only replica. script: 28, on @user_script:1.",
                Fate::Demoted,
            ),
            // Redis 6.
            (
                "ERR Error running script (call to f_1): @user_script:4: @user_script: 4: -READONLY You can't write against a read only replica.",
                Fate::Demoted,
            ),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                Fate::Demoted,
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Fate::Demoted,
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                Fate::Demoted,
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Fate::Kept,
            ),
            (
                "NOPERM this user has no permissions to run the 'time' command",
                Fate::Kept,
            ),
        ] {
            assert_eq!(fate(&error(line)), expected, "{line}");
        }
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(fate(&RedisError::from(broken)), Fate::Lost);
    }

    #[test]
    fn what_an_acl_forbids_is_named() {
        let script = "-- A script\nlocal a = 1\nlocal time = redis.call('TIME')\n";
        let command = |name: &str| StoreError::ForbiddenCommand(name.to_owned());
        for (line, expected) in [
            (
                "NOPERM this user has no permissions to run the 'evalsha' command",
                command("EVALSHA"),
            ),
            (
                "NOPERM User access has no permissions to run the 'script|load' command",
                command("SCRIPT|LOAD"),
            ),
            // Redis 6, 7.0 and later ones.
            (
                "ERR Error running script (call to f_1): @user_script:3: @user_script: 3: The user executing the script can't run this command or subcommand",
                command("TIME"),
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: 104a, on @user_script:3.",
                command("TIME"),
            ),
            (
                "ERR ACL failure in script: User me has no permissions to run the 'time' command script: 104a, on @user_script:3.",
                command("TIME"),
            ),
            (
                "NOPERM No permissions to access a key",
                StoreError::ForbiddenKey,
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                StoreError::ForbiddenKey,
            ),
            (
                "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: f2, on @user_script:1.",
                StoreError::ForbiddenKey,
            ),
            (
                "ERR ACL failure in script: No permissions to access a key script: f2, on @user_script:1.",
                StoreError::ForbiddenKey,
            ),
            ("NOPERM", StoreError::Redis(FORBIDDEN)),
        ] {
            assert_eq!(store_error(&error(line), script), expected, "{line}");
        }
        let says = command("TIME").to_string();
        assert!(says.contains("TIME") && says.contains("+time"), "{says}");
    }
}
