//! The folder from which apps take the root: in each form that a language wants, and none of it ever half written.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use x509_parser::parse_x509_certificate;

use super::{
    constraints,
    der::{pem, validity},
    error::CaError,
    files,
    issue::ROOT_NAME,
    subject_hash::subject_hash,
    truststore,
};
use crate::{
    net::tls::{self, TlsError},
    os,
};

/// The root, and perhaps the one before it. It is for clients that add it to their own roots.
pub const ROOT: &str = "ca.crt";

/// A folder with the root, in which OpenSSL finds it by the hash of its subject.
pub const HASHED: &str = "hashed";

/// The public roots and ours, for clients that trust nothing else then.
pub const BUNDLE: &str = "ca-bundle.crt";

/// The same for Java.
pub const TRUSTSTORE: &str = "truststore.jks";

/// A folder with settings of PHP.
pub const PHP: &str = "php";

/// Settings of wget.
pub const WGETRC: &str = "wgetrc";

/// The root before this one, in [`HASHED`].
const PREVIOUS: &str = "previous.crt";

/// The options of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The folder. Apps see it at the same path.
    pub dir: PathBuf,
    /// A PEM file with roots of a company, to trust beside the public ones.
    pub also: Option<PathBuf>,
}

/// Writes all files for `root`. This may block.
pub fn write(options: &Options, root: &CertificateDer<'static>) -> Result<(), CaError> {
    let dir = &*options.dir;
    files::public_folder(dir)?;
    warn_of_access(dir);
    files::remove_left_over(dir);
    // An app that starts while sidecars replace each other may meet either.
    let previous = previous(dir, root);
    let own: Vec<_> = [root].into_iter().chain(&previous).collect();
    let roots: String = own.iter().map(|root| pem(root)).collect();
    files::public_file(dir, ROOT, roots.as_bytes())?;
    hashed(dir, &own)?;
    let public = public(options.also.as_deref())?;
    let public: Vec<_> = public.iter().filter(|root| !own.contains(root)).collect();
    let bundle: String = public.iter().map(|root| pem(root)).collect();
    files::public_file(dir, BUNDLE, (bundle + &roots).as_bytes())?;
    files::public_file(dir, TRUSTSTORE, &truststore(&public, &own))?;
    files::own_folder(&dir.join(PHP))?;
    let bundle = dir.join(BUNDLE);
    let bundle = bundle.display();
    let php = format!("curl.cainfo = \"{bundle}\"\nopenssl.cafile = \"{bundle}\"\n");
    let php_file = format!("{PHP}/wechat-sidecar.ini");
    files::public_file(dir, &php_file, php.as_bytes())?;
    let wget = format!("ca_certificate = {bundle}\n");
    files::public_file(dir, WGETRC, wget.as_bytes())
}

/// Writes all files again if one of them is gone, or does not have `root`. Returns whether that was so. This may block.
pub fn restore(options: &Options, root: &CertificateDer<'static>) -> Result<bool, CaError> {
    let dir = &*options.dir;
    let shown = fs::read_to_string(dir.join(ROOT)).is_ok_and(|roots| roots.contains(&pem(root)));
    let php = format!("{PHP}/wechat-sidecar.ini");
    let mut others = [HASHED, BUNDLE, TRUSTSTORE, &php, WGETRC].into_iter();
    let whole = shown && others.all(|name| dir.join(name).exists());
    if !whole {
        write(options, root)?;
    }
    Ok(!whole)
}

/// The owner of the folder can change what is in it, and may have closed it to others.
fn warn_of_access(dir: &Path) {
    if !files::is_open(dir) {
        let dir = dir.display();
        tracing::warn!(%dir, "the folder of trust-dir is closed to other users: apps that run as one of them find no root in it");
    }
    let access = fs::metadata(dir).ok().as_ref().and_then(os::file_access);
    let owner = access.map_or(0, |access| access.uid);
    if owner != 0 && Some(owner) != os::user() {
        let dir = dir.display();
        tracing::warn!(%dir, owner, "the folder of trust-dir belongs to another user, who decides whom the apps trust");
    }
}

/// Tries whether the files could be written. Nothing is made.
pub fn try_to_write(options: &Options) -> Result<(), CaError> {
    files::try_to_write(&options.dir)
}

/// The certificates in the file of a company's roots. Java trusts nothing at all where one of them is none.
pub fn also(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = tls::certificates(&fs::read(file)?)?;
    let mut roots = RootCertStore::empty();
    for root in &found {
        roots.add(root.clone()).map_err(TlsError::Unusable)?;
    }
    Ok(found)
}

/// Each public root and each of the company's, once.
fn public(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let mut public = tls::public_roots();
    if let Some(file) = file {
        let more = also(file).map_err(|error| CaError::Also {
            file: file.to_owned(),
            error,
        })?;
        public.extend(more);
    }
    let mut once = Vec::new();
    for root in public {
        if !once.contains(&root) {
            once.push(root);
        }
    }
    Ok(once)
}

/// The root that was written here before `root`, if it is one of ours and still valid.
fn previous(dir: &Path, root: &CertificateDer<'_>) -> Option<CertificateDer<'static>> {
    let text = fs::read(dir.join(ROOT)).ok()?;
    let mut found = CertificateDer::pem_slice_iter(&text).flatten();
    found.find(|found| found != root && is_ours(found))
}

/// Whether `root` is one that this program made, and not expired.
fn is_ours(root: &CertificateDer<'_>) -> bool {
    let has_our_name = || {
        let (_, parsed) = parse_x509_certificate(root).ok()?;
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
        Some(name.starts_with(ROOT_NAME))
    };
    let is_valid = validity(root).is_some_and(|valid| valid.end > SystemTime::now());
    is_valid && constraints::allowed(root).is_some() && has_our_name() == Some(true)
}

/// Writes a file and a link for each root, and removes those of others. A file comes before its link, because a link
/// that leads nowhere breaks OpenSSL's search.
fn hashed(dir: &Path, roots: &[&CertificateDer<'_>]) -> Result<(), CaError> {
    let folder = dir.join(HASHED);
    files::own_folder(&folder)?;
    let mut links: Vec<String> = Vec::new();
    // The older one first, which gives its file up.
    for (root, file) in roots.iter().zip([ROOT, PREVIOUS]).rev() {
        files::public_file(dir, &format!("{HASHED}/{file}"), pem(root).as_bytes())?;
        let Some(hash) = subject_hash(root) else {
            continue;
        };
        let same = links.iter().filter(|link| link.starts_with(&hash)).count();
        let link = format!("{hash}.{same}");
        files::link(dir, &format!("{HASHED}/{link}"), file)?;
        links.push(link);
    }
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let is_ours = [ROOT, PREVIOUS]
            .iter()
            .any(|file| target == Path::new(file));
        let name = entry.file_name();
        if is_ours && !links.iter().any(|link| name == link.as_str()) {
            files::remove(&entry.path())?;
        }
    }
    match roots.len() {
        1 => files::remove(&folder.join(PREVIOUS)),
        _ => Ok(()),
    }
}

fn truststore(public: &[&CertificateDer<'_>], own: &[&CertificateDer<'_>]) -> Vec<u8> {
    let name = |at: usize| format!("public-{at:03}");
    let mut all: Vec<(String, &CertificateDer<'_>)> = Vec::new();
    all.extend(
        own.iter()
            .zip(["wechat-sidecar", "wechat-sidecar-previous"])
            .map(|(root, alias)| (alias.to_owned(), *root)),
    );
    let public = public.iter().enumerate();
    all.extend(public.map(|(at, root)| (name(at), *root)));
    // The same date each time, so that a restart changes nothing.
    let made = own.first().and_then(|root| validity(root));
    truststore::jks(
        &all,
        made.map_or(SystemTime::UNIX_EPOCH, |valid| valid.start),
    )
}
