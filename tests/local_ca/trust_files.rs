//! The files by which apps trust the root.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use wechat_sidecar::ca::{Authority, Options, trust_dir};

use super::{Made, empty, openssl, options};

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(file).unwrap();
    found.map(Result::unwrap).collect()
}

/// All files and links below a folder.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => found.extend(below(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn in_memory() -> Authority {
    let hosts = options(Path::new("")).hosts;
    Authority::open(&Options { dir: None, hosts }).unwrap()
}

fn trust(dir: &Path) -> trust_dir::Options {
    let dir = dir.to_owned();
    trust_dir::Options { dir, also: None }
}

#[test]
fn everybody_may_read_all_of_them_and_a_restart_changes_none() {
    let made = Made::new("files");
    let dir = made.trusted("");
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o755);
    let names: Vec<String> = below(&dir)
        .iter()
        .map(|path| path.strip_prefix(&dir).unwrap().display().to_string())
        .filter(|name| !name.ends_with(".0"))
        .collect();
    let expected = [
        "ca-bundle.crt",
        "ca.crt",
        "hashed/ca.crt",
        "php/wechat-sidecar.ini",
        "truststore.jks",
        "wgetrc",
    ];
    assert_eq!(names, expected);
    for path in below(&dir) {
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o777,
            0o644,
            "{path:?}"
        );
        let folder = path.parent().unwrap();
        assert_eq!(
            fs::metadata(folder).unwrap().mode() & 0o777,
            0o755,
            "{folder:?}"
        );
    }
    let number = |path: &PathBuf| fs::symlink_metadata(path).unwrap().ino();
    let before: Vec<u64> = below(&dir).iter().map(number).collect();
    trust_dir::write(&trust(&dir), made.authority.root()).unwrap();
    assert_eq!(below(&dir).iter().map(number).collect::<Vec<_>>(), before);
}

#[test]
fn folders_in_it_that_others_cannot_read_are_opened_and_no_foreign_file_is_touched() {
    let made = Made::new("closed");
    let dir = made.trusted("");
    let foreign = dir.join("hashed/company.pem");
    fs::write(&foreign, "theirs").unwrap();
    for folder in ["hashed", "php"] {
        fs::set_permissions(dir.join(folder), Permissions::from_mode(0o700)).unwrap();
    }
    trust_dir::write(&trust(&dir), made.authority.root()).unwrap();
    for folder in ["hashed", "php"] {
        assert_eq!(
            fs::metadata(dir.join(folder)).unwrap().mode() & 0o777,
            0o755
        );
    }
    assert_eq!(fs::read_to_string(foreign).unwrap(), "theirs");
}

#[test]
fn what_is_no_certificate_is_none_of_a_companys_roots() {
    // Java would trust nobody at all, with one of them in its store.
    let (dir, good) = (empty("junk"), in_memory().certificate_pem());
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let file = dir.join("company.pem");
    for text in [
        junk.to_owned(),
        format!("{good}{junk}"),
        format!("{junk}{good}"),
    ] {
        fs::write(&file, text).unwrap();
        let error = trust_dir::also(&file).unwrap_err().to_string();
        assert!(error.contains("cannot be used"), "{error}");
    }
    fs::write(&file, format!("{good}{good}")).unwrap();
    assert_eq!(trust_dir::also(&file).unwrap().len(), 2);
}

#[test]
fn the_bundle_holds_the_public_roots_the_companys_and_ours_once_each() {
    let (made, dir) = (Made::new("bundle"), empty("also"));
    let company = in_memory().certificate_pem();
    let also = dir.join("company.pem");
    fs::write(&also, format!("{company}{company}")).unwrap();
    let options = trust_dir::Options {
        dir: dir.clone(),
        also: Some(also.clone()),
    };
    trust_dir::write(&options, made.authority.root()).unwrap();
    let bundle = certificates(&dir.join("ca-bundle.crt"));
    assert!(bundle.len() > 100, "{}", bundle.len());
    assert_eq!(bundle.last(), Some(made.authority.root()));
    let of_company = certificates(&also)[0].clone();
    assert_eq!(bundle.iter().filter(|root| **root == of_company).count(), 1);
    assert_eq!(
        certificates(&dir.join("ca.crt")),
        [made.authority.root().clone()]
    );
    let php = fs::read_to_string(dir.join("php/wechat-sidecar.ini")).unwrap();
    assert!(
        php.contains(&format!("\"{}/ca-bundle.crt\"", dir.display())),
        "{php}"
    );
}

#[test]
fn the_root_before_this_one_stays_beside_it_and_the_one_before_that_does_not() {
    let dir = empty("previous");
    let authorities = [in_memory(), in_memory(), in_memory()];
    for authority in &authorities {
        trust_dir::write(&trust(&dir), authority.root()).unwrap();
    }
    let [_, previous, current] = authorities.map(|authority| authority.root().clone());
    assert_eq!(
        certificates(&dir.join("ca.crt")),
        [current.clone(), previous.clone()]
    );
    let hashed: Vec<PathBuf> = below(&dir.join("hashed"));
    assert_eq!(hashed.len(), 4, "{hashed:?}");
    let links = hashed
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(".0"));
    let linked: Vec<_> = links.flat_map(|link| certificates(link)).collect();
    assert!(linked.contains(&current) && linked.contains(&previous));
    // A certificate of somebody else is no root of ours.
    let foreign = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    fs::write(dir.join("ca.crt"), foreign.cert.pem()).unwrap();
    trust_dir::write(&trust(&dir), &current).unwrap();
    assert_eq!(certificates(&dir.join("ca.crt")), [current]);
    assert_eq!(below(&dir.join("hashed")).len(), 2);
}

#[test]
fn a_reader_never_meets_half_a_file() {
    let dir = empty("readers");
    let authorities = [in_memory(), in_memory()];
    trust_dir::write(&trust(&dir), authorities[0].root()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                for (file, least) in [("ca.crt", 1), ("ca-bundle.crt", 100), ("hashed/ca.crt", 1)] {
                    assert!(certificates(&dir.join(file)).len() >= least, "{file}");
                    reads += 1;
                }
                let store = fs::read(dir.join("truststore.jks")).unwrap();
                let ending = ring::digest::SHA1_FOR_LEGACY_USE_ONLY.output_len();
                assert_eq!(jks_length(&store), store.len() - ending);
            }
            reads
        });
        for authority in authorities.iter().cycle().take(20) {
            trust_dir::write(&trust(&dir), authority.root()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 10);
    });
}

/// Reads a store of Java, and returns the length of what the digest behind it is of.
fn jks_length(store: &[u8]) -> usize {
    let number = |at: usize| u32::from_be_bytes(store[at..at + 4].try_into().unwrap()) as usize;
    let short = |at: usize| u16::from_be_bytes(store[at..at + 2].try_into().unwrap()) as usize;
    let mut at = 12;
    for _ in 0..number(8) {
        assert_eq!(number(at), 2);
        at += 4;
        at += 2 + short(at) + 8;
        at += 2 + short(at);
        at += 4 + number(at);
    }
    at
}

#[test]
#[ignore = "needs openssl"]
fn openssl_finds_the_root_by_its_link() {
    let made = Made::new("hash");
    let root = made.trusted("ca.crt");
    let (_, hash) = openssl(&["x509", "-noout", "-hash", "-in", root.to_str().unwrap()]);
    let link = made.trusted("hashed").join(format!("{}.0", hash.trim()));
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("ca.crt"));
    let hashed = made.trusted("hashed");
    let issuing = made.ca_dir().join("ca/issuing.crt");
    let folder = ["verify", "-CApath", hashed.to_str().unwrap()];
    let (found, text) =
        openssl(&[&folder[..], &["-no-CAfile", issuing.to_str().unwrap()]].concat());
    assert!(found, "{text}");
}

#[test]
#[ignore = "needs a JDK"]
fn keytool_reads_the_store_with_and_without_a_password() {
    let made = Made::new("keytool");
    let store = made.trusted("truststore.jks");
    for password in [None, Some("changeit")] {
        let mut command = std::process::Command::new("keytool");
        command
            .args(["-J-Duser.language=en", "-list", "-keystore"])
            .arg(&store);
        command.stdin(std::process::Stdio::null());
        command.args(
            password
                .map(|password| ["-storepass", password])
                .into_iter()
                .flatten(),
        );
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("wechat-sidecar, ") && text.contains("trustedCertEntry"),
            "{text}"
        );
    }
}
