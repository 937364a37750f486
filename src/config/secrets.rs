//! Secrets in files that keys name, and the account of the environment.

mod look;

use std::{fs, io, path::Path, sync::Arc};

use super::{
    Sources,
    error::{ConfigError, Provenance},
    keys::Id,
    settings::Settings,
};
use crate::{
    account,
    os::{self, FileAccess},
    secret::{Secret, SecretSource, trim},
    wechat::api::Api,
};
use look::Look;

/// The variable with the AppID.
pub(super) const APPID: &str = "WECHAT_APPID";
/// The variable with the AppSecret.
const SECRET: &str = "WECHAT_SECRET";
/// The variable with the path of a file that contains the AppSecret.
const SECRET_FILE: &str = "WECHAT_SECRET_FILE";

/// What a warning about a file says that everybody can read.
pub(super) const OPEN_TO_ALL: &str = "everybody on this machine can read the file";

/// Whether a warning is about a file that everybody can read.
pub fn is_about_an_open_file(warning: &str) -> bool {
    warning.contains(OPEN_TO_ALL)
}

/// The secret in the file that `id` names, if it is set.
pub(super) fn secret(
    settings: &Settings,
    id: Id,
    warnings: &mut Vec<String>,
) -> Result<Option<Arc<SecretSource>>, ConfigError> {
    let Some((given, path)) = settings.text(id) else {
        return Ok(None);
    };
    open(path, &given.place, warnings).map(Some)
}

/// The AppID and its secret, from the environment.
pub(super) fn account(
    sources: &Sources,
    warnings: &mut Vec<String>,
) -> Result<(String, Arc<SecretSource>), ConfigError> {
    let appid = appid(variable(sources, APPID))?;
    let variables = (variable(sources, SECRET), variable(sources, SECRET_FILE));
    let (secret, name) = match variables {
        (Some(text), None) => {
            let secret = SecretSource::fixed(Secret::new(text)).given_by(SECRET);
            (Arc::new(secret), SECRET)
        }
        (None, Some(path)) => {
            let place = Provenance::Variable(SECRET_FILE.to_owned());
            (open(path, &place, warnings)?, SECRET_FILE)
        }
        (Some(_), Some(_)) => {
            return Err(at(
                SECRET_FILE,
                "WECHAT_SECRET is set as well: keep one of them",
            ));
        }
        (None, None) => {
            return Err(at(
                SECRET_FILE,
                "no AppSecret: name a file that holds it here, or set WECHAT_SECRET",
            ));
        }
    };
    let place = Provenance::Variable(name.to_owned());
    warnings.extend(odd_look(Api::Wechat, &secret, &place));
    Ok((appid, secret))
}

/// A warning if an account's secret at `place` does not look like one of `api`.
pub(super) fn odd_look(api: Api, secret: &SecretSource, place: &Provenance) -> Option<String> {
    let look = Look::of(api, secret.held().expose())?;
    Some(format!("{place}: the secret {look}"))
}

/// The first variable of the account that is set.
pub(super) fn credential(sources: &Sources) -> Option<&'static str> {
    let names = [APPID, SECRET, SECRET_FILE];
    names
        .into_iter()
        .find(|name| variable(sources, name).is_some())
}

fn appid(given: Option<&str>) -> Result<String, ConfigError> {
    let appid = given.ok_or_else(|| {
        at(
            APPID,
            "it must be set: the AppID as WeChat's console shows it, like wx0123456789abcdef; several accounts stand in the file, below [[accounts]]",
        )
    })?;
    account::check_appid(appid).map_err(|problem| at(APPID, &format!("its value {problem}")))?;
    Ok(appid.to_owned())
}

/// The value of a variable, without white space around it, unless it is unset or empty.
fn variable<'a>(sources: &'a Sources, name: &str) -> Option<&'a str> {
    let (_, text) = sources.env.iter().find(|(known, _)| known == name)?;
    Some(trim(text)).filter(|text| !text.is_empty())
}

fn at(variable: &str, problem: &str) -> ConfigError {
    ConfigError::new(Provenance::Variable(variable.to_owned()), problem)
}

/// The secret in a file. Errors do not repeat the path, which may be a secret by mistake.
pub(super) fn open(
    path: &str,
    place: &Provenance,
    warnings: &mut Vec<String>,
) -> Result<Arc<SecretSource>, ConfigError> {
    let source = SecretSource::file(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => denied(Path::new(path)),
            _ => String::new(),
        };
        ConfigError::new(
            place.clone(),
            format!("the file cannot be used: {error}{why}"),
        )
    })?;
    if is_open_to_all(Path::new(path)) {
        warnings.push(format!("{place}: {OPEN_TO_ALL}; chmod 600 it"));
    }
    Ok(Arc::new(source.given_by(place.without_line())))
}

/// Whose the file is that this process may not read, and whose the process is.
fn denied(path: &Path) -> String {
    let Some(me) = os::user() else {
        return String::new();
    };
    match fs::metadata(path).map(|found| os::file_access(&found)) {
        Ok(Some(FileAccess { uid, gid, mode })) => format!(
            "; it belongs to the user {uid} and the group {gid}, with the mode {mode:04o}, and this process to the user {me}"
        ),
        Ok(None) => String::new(),
        Err(_) => format!("; the user {me} of this process may not search a directory above it"),
    }
}

/// Whether everybody may read the file. Secrets that a container platform mounts are an exception, which is harmless.
/// They are in its usual directories, or behind a symbolic link.
pub(super) fn is_open_to_all(path: &Path) -> bool {
    let mounted = path.starts_with("/run/secrets") || path.starts_with("/var/run/secrets");
    let open = |metadata: fs::Metadata| {
        let access = os::file_access(&metadata);
        !metadata.is_symlink() && access.is_some_and(|access| access.mode & 0o004 != 0)
    };
    !mounted && fs::symlink_metadata(path).is_ok_and(open)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn account_of(env: &[(&str, &str)]) -> Result<(String, String), String> {
        let env = env
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        let sources = Sources {
            env,
            ..Sources::default()
        };
        account(&sources, &mut Vec::new())
            .map(|(appid, secret)| (appid, secret.held().expose().to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_account_is_an_appid_and_one_secret() {
        let known = account_of(&[(APPID, "wx1"), (SECRET, " s\n"), (SECRET_FILE, "")]);
        assert_eq!(known.unwrap(), ("wx1".to_owned(), "s".to_owned()));
        for (env, says) in [
            (&[(SECRET, "HUNTER2")][..], "WECHAT_APPID: it must be set"),
            (
                &[(APPID, ""), (SECRET, "HUNTER2")],
                "WECHAT_APPID: it must be set",
            ),
            (&[(APPID, "wx HUNTER2")], "WECHAT_APPID: its value is not"),
            // WeCom's secrets have this length.
            (
                &[(APPID, "HUNTER2-HUNTER2-HUNTER2-HUNTER2-HUNTER2-abc")],
                "WECHAT_APPID: its value is not",
            ),
            (
                &[(APPID, "0123456789abcdef0123456789abcdef")],
                "looks like an AppSecret",
            ),
            (&[(APPID, "wx1")], "WECHAT_SECRET_FILE: no AppSecret"),
            (
                &[(APPID, "wx1"), (SECRET, "HUNTER2"), (SECRET_FILE, "f")],
                "keep one of them",
            ),
            (
                &[(APPID, "wx1"), (SECRET_FILE, "/HUNTER2")],
                "WECHAT_SECRET_FILE: the file cannot be used",
            ),
        ] {
            let error = account_of(env).unwrap_err();
            assert!(
                error.contains(says) && !error.contains("HUNTER2"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_everybody_can_read_causes_a_warning() {
        let path = std::env::temp_dir().join(format!("open-{}", std::process::id()));
        let link = path.with_extension("link");
        fs::write(&path, "s").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for (mode, open) in [(0o644, true), (0o640, false), (0o600, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_all(&path), open, "{mode:o}");
            assert!(!is_open_to_all(&link));
        }
        fs::remove_file(&path).unwrap();
        fs::remove_file(&link).unwrap();
    }
}
