//! The folder that keeps a CA, so that a restart does not break apps that have loaded its root.
//!
//! It is written beside its place, and moved there when it is complete. Of two sidecars that do so at once, one is
//! first, and the other one uses what it finds.

use std::{
    fs::{self, DirBuilder, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rcgen::KeyPair;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use zeroize::Zeroizing;

use super::{
    constraints,
    der::{pem, validity},
    error::{CaError, FolderFlaw},
    files,
    issue::{self, IssuingCa, NewCa},
};
use crate::os::{self, DirBuilderExt, OpenOptionsExt};

/// The folder in the one that is configured.
const FOLDER: &str = "ca";

/// The root, in PEM.
pub(super) const ROOT: &str = "ca.crt";
const ISSUING: &str = "issuing.crt";
const KEY: &str = "issuing.key";

/// Only this user may read and write.
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// The folder in the configured folder `dir` that only the sidecar can read.
pub fn private_folder(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

/// The file with the root, in the configured folder `dir`.
pub fn root_file(dir: &Path) -> PathBuf {
    dir.join(FOLDER).join(ROOT)
}

/// Loads the CA that is kept in `dir`, or makes one for `hosts`, and keeps it there.
pub(super) fn open(dir: &Path, hosts: &[String], now: SystemTime) -> Result<IssuingCa, CaError> {
    if let Some(ca) = load(dir, now)? {
        return Ok(ca);
    }
    let made = issue::new_ca(hosts, now)?;
    if keep(dir, &made)? {
        return Ok(IssuingCa::new(made.root, made.issuing, made.key)?);
    }
    // Somebody else was faster.
    let folder = dir.join(FOLDER);
    load(dir, now)?.ok_or_else(|| CaError::Write {
        path: folder,
        error: ErrorKind::AlreadyExists.into(),
    })
}

/// Loads the CA that is kept in `dir`; `None` if there is none.
pub(super) fn load(dir: &Path, now: SystemTime) -> Result<Option<IssuingCa>, CaError> {
    let folder = dir.join(FOLDER);
    read(&folder, now).map_err(|flaw| CaError::Folder { folder, flaw })
}

fn read(folder: &Path, now: SystemTime) -> Result<Option<IssuingCa>, FolderFlaw> {
    let found = match fs::symlink_metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(folder, error)),
    };
    if !found.is_dir() {
        return Err(FolderFlaw::NotAFolder);
    }
    make_private(folder, &found, PRIVATE_FOLDER)?;
    let mut entries = fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    if entries.next().is_none() {
        return Ok(None);
    }
    let root = certificate(&folder.join(ROOT))?;
    let issuing = certificate(&folder.join(ISSUING))?;
    let file = folder.join(KEY);
    let key = Zeroizing::new(text(&file)?);
    let key = KeyPair::from_pem(&key).map_err(|_| FolderFlaw::NotPem { file, what: "key" })?;
    let hosts = constraints::allowed(&issuing).ok_or(FolderFlaw::Unconstrained)?;
    if let Some(until) = validity(&root)
        .map(|valid| valid.end)
        .filter(|until| *until <= now)
    {
        return Err(FolderFlaw::Expired(until));
    }
    let mismatch = |error: &dyn std::error::Error| FolderFlaw::Mismatch(error.to_string());
    let ca = IssuingCa::new(root, issuing, key).map_err(|error| mismatch(&error))?;
    try_out(&ca, &hosts, now).map_err(|error| mismatch(&error))?;
    Ok(Some(ca))
}

/// Has a client verify a leaf: the key may be another one's, and the issuing CA another root's. The time is one at
/// which the root is valid, for this machine's clock may be wrong.
fn try_out(ca: &IssuingCa, hosts: &[String], now: SystemTime) -> Result<(), CaError> {
    let start = validity(&ca.root).map_or(now, |valid| valid.start.max(now));
    let leaf = ca.leaf(&hosts[..1], start)?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.root.clone())?;
    let provider = Arc::new(ring::default_provider());
    let client = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
    let client = client.map_err(|error| rustls::Error::General(error.to_string()))?;
    let host = ServerName::try_from(hosts[0].as_str());
    let host = host.map_err(|error| rustls::Error::General(error.to_string()))?;
    let since = start.duration_since(SystemTime::UNIX_EPOCH);
    let time = UnixTime::since_unix_epoch(since.unwrap_or_default());
    client.verify_server_cert(&leaf.cert[0], &leaf.cert[1..], &host, &[], time)?;
    Ok(())
}

fn certificate(file: &Path) -> Result<CertificateDer<'static>, FolderFlaw> {
    let text = text(file)?;
    let certificate = CertificateDer::from_pem_slice(text.as_bytes());
    certificate.map_err(|_| FolderFlaw::NotPem {
        file: file.to_owned(),
        what: "certificate",
    })
}

fn text(file: &Path) -> Result<String, FolderFlaw> {
    let found = fs::symlink_metadata(file).map_err(|error| unreadable(file, error))?;
    make_private(file, &found, PRIVATE_FILE)?;
    fs::read_to_string(file).map_err(|error| unreadable(file, error))
}

/// Checks that only this user can read it. A volume may have been opened to a group when it was mounted.
fn make_private(path: &Path, found: &Metadata, mode: u32) -> Result<(), FolderFlaw> {
    let (Some(access), Some(own)) = (os::file_access(found), os::user()) else {
        return Ok(());
    };
    if access.uid != own {
        return Err(FolderFlaw::Foreign {
            owner: access.uid,
            own,
        });
    }
    if access.mode & 0o077 == 0 || found.is_symlink() {
        return Ok(());
    }
    let path_shown = path.display();
    tracing::warn!(path = %path_shown, "others could read a part of the local CA; now they cannot");
    os::set_mode(path, mode).map_err(|error| unreadable(path, error))
}

/// Writes the folder. Returns whether it is this one, and not somebody else's that came first.
fn keep(dir: &Path, made: &NewCa) -> Result<bool, CaError> {
    fs::create_dir_all(dir).map_err(files::cannot_write(dir))?;
    files::remove_left_over(dir);
    let incomplete = files::incomplete(dir);
    let folder = dir.join(FOLDER);
    let written = write_into(&incomplete, made).map_err(files::cannot_write(&folder));
    let moved = written.and_then(|()| match fs::rename(&incomplete, &folder) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(files::cannot_write(&folder)(error)),
    });
    if !matches!(moved, Ok(true)) {
        let _ = fs::remove_dir_all(&incomplete);
    }
    moved
}

fn write_into(folder: &Path, made: &NewCa) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE_FOLDER).create(folder)?;
    let key = Zeroizing::new(made.key.serialize_pem());
    for (name, text) in [
        (ROOT, &*pem(&made.root)),
        (ISSUING, &*pem(&made.issuing)),
        (KEY, key.as_str()),
    ] {
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(PRIVATE_FILE);
        let mut file = options.open(folder.join(name))?;
        file.write_all(text.as_bytes())?;
        // Otherwise a machine that loses its power may keep the name and not the contents.
        file.sync_all()?;
    }
    Ok(())
}

fn unreadable(file: &Path, error: io::Error) -> FolderFlaw {
    FolderFlaw::Unreadable {
        file: file.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_expired_root_is_an_error_and_one_that_is_not_valid_yet_is_used() {
        let dir = std::env::temp_dir().join(format!("ca-folder-{}", std::process::id()));
        let hosts = ["api.weixin.qq.com".to_owned()];
        let now = SystemTime::now();
        let first = open(&dir, &hosts, now).unwrap();
        let again = |now| load(&dir, now).map(|ca| ca.unwrap().root);
        assert_eq!(again(now - 30 * DAY).unwrap(), first.root);
        assert_eq!(again(now + 3649 * DAY).unwrap(), first.root);
        let expired = again(now + 3651 * DAY).unwrap_err().to_string();
        assert!(expired.contains("expired on 20"), "{expired}");
        fs::remove_dir_all(dir).unwrap();
    }
}
