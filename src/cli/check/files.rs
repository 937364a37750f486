//! The files that the configuration names: whether they can be read, and who else can read or change them.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::report::{Check, Finding};
use crate::{
    account::{self, SourceOptions},
    config::{Config, keys::Id},
    os::{self, FileAccess},
    secret::SecretSource,
};

/// Where container platforms and systemd put secrets. They choose the modes, and keep other users out themselves.
const MOUNTS: [&str; 4] = [
    "/run/secrets",
    "/var/run/secrets",
    "/run/credentials",
    "/var/run/credentials",
];

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Secret,
    /// A token, which another program writes.
    Token,
    /// The configuration, and perhaps an AppSecret.
    Settings {
        has_secret: bool,
    },
    Certificates,
}

impl Content {
    fn is_secret(self) -> bool {
        match self {
            Self::Secret | Self::Token => true,
            Self::Settings { has_secret } => has_secret,
            Self::Certificates => false,
        }
    }
}

/// A file, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedFile {
    path: PathBuf,
    setting: String,
    content: Content,
}

/// Whose process this is.
#[derive(Clone, Debug)]
struct Reader {
    uid: Option<u32>,
    groups: Vec<u32>,
}

impl Reader {
    fn of_process() -> Self {
        Self {
            uid: os::user(),
            groups: os::groups(),
        }
    }
}

/// What is wrong with the access to a file with this content, and what to do.
fn fault(access: FileAccess, content: Content, reader: &Reader) -> Option<(String, String)> {
    let allows = |bits: u32| access.mode & bits != 0;
    let by_group = Some(access.uid) != reader.uid && reader.groups.contains(&access.gid);
    if !allows(0o444) {
        let why = "nobody may read it by its mode, only root can".to_owned();
        return Some((
            why,
            "let the user of the sidecar own it, and chmod 600 it".into(),
        ));
    }
    if content.is_secret() && allows(0o004) {
        let why = "everybody on this machine can read it".to_owned();
        return Some((why, "chmod 600 it".into()));
    }
    // The sidecar itself may read it by its group.
    if content.is_secret() && allows(0o040) && !by_group {
        let why = format!("the group {} can read it", access.gid);
        return Some((why, "chmod 600 it".into()));
    }
    allows(0o002).then(|| {
        let why = "everybody on this machine can change it".to_owned();
        (why, "chmod o-w it".into())
    })
}

/// Each file once.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let reader = Reader::of_process();
    let mut seen = HashSet::new();
    let of_accounts = config.accounts.iter().flat_map(|one| of_account(one));
    let files = common(config).chain(of_accounts);
    let files = files.filter(|file| seen.insert(file.path.clone()));
    files.filter_map(|file| finding(&file, &reader)).collect()
}

/// The files that are no account's.
fn common(config: &Config) -> impl Iterator<Item = NamedFile> {
    // A key in a file is 'secret in FILE', a variable has one word.
    let has_secret = |account: &account::Options| {
        let source = account.secret.as_deref();
        let source = source.filter(|source| source.file_path().is_none());
        let setting = source.and_then(SecretSource::setting);
        setting.is_some_and(|setting| setting.contains(" in "))
    };
    let has_secret = config.accounts.iter().any(|one| has_secret(one));
    let files = [
        (Id::Config, Content::Settings { has_secret }),
        (Id::CallerKeyFile, Content::Secret),
        (Id::EgressProxyCredentialsFile, Content::Secret),
        (Id::StorePasswordFile, Content::Secret),
        (Id::StoreAuthFile, Content::Secret),
        (Id::OtlpHeadersFile, Content::Secret),
        (Id::UpstreamCa, Content::Certificates),
        (Id::StoreCaFile, Content::Certificates),
    ];
    files.into_iter().filter_map(|(id, content)| {
        Some(NamedFile {
            path: config.path(id)?.to_owned(),
            setting: format!("--{}", id.key().name),
            content,
        })
    })
}

fn of_account(account: &account::Options) -> Vec<NamedFile> {
    let named = |path: &Path, setting: String, content| NamedFile {
        path: path.to_owned(),
        setting,
        content,
    };
    let secret = |source: &SecretSource| {
        let path = source.file_path()?;
        let setting = source
            .setting()
            .map_or_else(|| "secret".into(), |s| s.to_string());
        Some(named(&path, setting, Content::Secret))
    };
    let mut files: Vec<NamedFile> = account.secret.iter().filter_map(|s| secret(s)).collect();
    let of = |key: &str| format!("{key} of {}", account.names());
    match &account.source {
        SourceOptions::Wechat => {}
        SourceOptions::File(path) => files.push(named(path, of("token.file"), Content::Token)),
        SourceOptions::Http(server) => {
            files.extend(server.header.iter().filter_map(|s| secret(s)));
        }
    }
    let own = account.upstream.as_ref();
    let ca = own.and_then(|own| own.tls.file());
    files.extend(ca.map(|path| named(path, of("upstream_ca_file"), Content::Certificates)));
    files
}

/// Whether its mode is chosen by a platform, which mounts it or leads to it by a symbolic link.
fn is_mounted(path: &Path) -> bool {
    let below = |mount: &str| path.starts_with(mount);
    let is_link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    MOUNTS.iter().any(|mount| below(mount)) || is_link()
}

/// What there is to say of a file. A token file that is missing is told of by the check of the token.
fn finding(file: &NamedFile, reader: &Reader) -> Option<Finding> {
    let NamedFile {
        path,
        setting,
        content,
    } = file;
    let (name, shown) = (
        format!("the file {} ({setting})", path.display()),
        path.display(),
    );
    let subject = shown.to_string();
    // A pipe was read already, and must not be waited for.
    let opened = fs::metadata(path).and_then(|found| match found.is_file() {
        true => File::open(path).map(|_| Some(found)),
        false => Ok(None),
    });
    let metadata = match opened.transpose()? {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && *content == Content::Token => {
            return None;
        }
        Err(error) => {
            let sentence = format!("{name} cannot be read: {error}");
            let failed = Finding::failed(Check::File, &subject, sentence);
            let uid = reader.uid.map(|uid| format!(" ({uid})"));
            let uid = uid.unwrap_or_default();
            return Some(failed.advise(format!("let the user of this process{uid} read it")));
        }
    };
    let access = os::file_access(&metadata);
    let checked = access.filter(|_| !is_mounted(path));
    let found = checked.and_then(|access| Some((access.mode, fault(access, *content, reader)?)));
    let finding = match found {
        Some((mode, (why, advice))) => {
            let sentence = format!("{name}, of mode {mode:04o}: {why}");
            Finding::warning(Check::File, &subject, sentence).advise(advice)
        }
        None => Finding::ok(Check::File, &subject, format!("{name} can be read")),
    };
    let finding = finding.detail("setting", setting.as_str());
    Some(match access {
        Some(FileAccess { uid, gid, mode }) => finding
            .detail("mode", format!("{mode:04o}"))
            .detail("owner", uid)
            .detail("group", gid),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_and_the_group_of_the_sidecar_alone() {
        let reader = Reader {
            uid: Some(1000),
            groups: vec![1000, 44],
        };
        let said = |uid, gid, mode, content| {
            let fault = fault(FileAccess { uid, gid, mode }, content, &reader);
            fault.map(|(why, _)| why)
        };
        let settings = |has_secret| Content::Settings { has_secret };
        for (uid, gid, mode, content, words) in [
            (1000, 1000, 0o600, Content::Secret, None),
            (1000, 1000, 0o400, Content::Secret, None),
            (1000, 1000, 0o640, Content::Secret, Some("the group 1000")),
            (1000, 7, 0o640, Content::Token, Some("the group 7")),
            (1000, 1000, 0o604, Content::Secret, Some("can read it")),
            (1000, 1000, 0o200, Content::Secret, Some("only root")),
            (0, 0, 0o000, Content::Certificates, Some("only root")),
            // As packages do it: root's, and read by the group.
            (0, 44, 0o640, Content::Secret, None),
            (0, 45, 0o640, Content::Secret, Some("the group 45")),
            (0, 0, 0o644, Content::Certificates, None),
            (0, 0, 0o666, Content::Certificates, Some("can change it")),
            (0, 0, 0o644, settings(false), None),
            (0, 0, 0o644, settings(true), Some("can read it")),
        ] {
            let why = said(uid, gid, mode, content);
            let matches = match (&why, words) {
                (Some(why), Some(words)) => why.contains(words),
                (why, words) => why.is_none() && words.is_none(),
            };
            assert!(matches, "{uid} {gid} {mode:o} {content:?}: {why:?}");
        }
    }

    #[test]
    fn what_a_platform_mounts_has_the_mode_that_the_platform_chose() {
        for (path, mounted) in [
            ("/run/secrets/wechat", true),
            ("/var/run/secrets/x/y", true),
            ("/run/credentials/wechat.service/secret", true),
            ("/run/secretsx", false),
            ("/etc/wechat/secret", false),
        ] {
            assert_eq!(is_mounted(Path::new(path)), mounted, "{path}");
        }
    }
}
