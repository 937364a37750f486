//! The folder that keeps the CA.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Barrier,
    thread,
    time::{Duration, SystemTime},
};

use wechat_sidecar::{
    ca::{Authority, inspect},
    net::tls::ServerCertificates,
};

use super::{empty, options};

fn root(dir: &Path) -> String {
    Authority::open(&options(dir)).unwrap().certificate_pem()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

#[test]
fn a_restart_keeps_the_root_and_another_folder_has_another_one() {
    let (one, other) = (empty("one"), empty("other"));
    let first = root(&one);
    assert_eq!(root(&one), first);
    assert_ne!(root(&other), first);
}

#[test]
fn nobody_else_may_read_it_whatever_the_volume_did() {
    let dir = empty("modes");
    let first = root(&dir);
    let folder = dir.join("ca");
    let files = ["ca.crt", "issuing.crt", "issuing.key"].map(|file| folder.join(file));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), files.len());
    let are_private = || {
        assert_eq!(mode(&folder), 0o700);
        assert!(files.iter().all(|file| mode(file) == 0o600));
    };
    are_private();
    fs::set_permissions(&folder, Permissions::from_mode(0o770)).unwrap();
    fs::set_permissions(&files[2], Permissions::from_mode(0o660)).unwrap();
    assert_eq!(root(&dir), first);
    are_private();
}

#[test]
fn no_key_of_a_root_is_kept() {
    let dir = empty("keys");
    root(&dir);
    let keys = fs::read_dir(dir.join("ca")).unwrap().filter(|entry| {
        let text = fs::read_to_string(entry.as_ref().unwrap().path()).unwrap();
        text.contains("PRIVATE KEY")
    });
    assert_eq!(keys.count(), 1);
}

#[test]
fn sidecars_that_make_it_at_once_end_with_the_same_root() {
    for _ in 0..20 {
        let (dir, start) = (empty("race"), Barrier::new(6));
        let roots: Vec<String> = thread::scope(|scope| {
            let racing = || {
                start.wait();
                root(&dir)
            };
            let racers: Vec<_> = (0..6).map(|_| scope.spawn(racing)).collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        assert!(roots.iter().all(|root| *root == roots[0]));
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            1,
            "something is left over"
        );
    }
}

#[test]
fn what_a_process_left_half_written_does_not_matter_and_goes_away() {
    let dir = empty("half");
    let (old, young) = (dir.join(".incomplete-0"), dir.join(".incomplete-1"));
    for folder in [&old, &young] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("issuing.key"), "-----BEGIN PRIV").unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    File::open(&old).unwrap().set_modified(yesterday).unwrap();
    let first = root(&dir);
    assert!(!old.exists() && young.exists());
    assert_eq!(root(&dir), first);
}

/// A name, what spoils the folder, and what is said then.
type Spoilt<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);

#[test]
fn a_folder_that_cannot_be_used_is_explained_and_left_alone() {
    let other = empty("other");
    root(&other);
    let spoilt: &[Spoilt<'_>] = &[
        (
            "cut",
            &|folder| cut(&folder.join("issuing.key")),
            "issuing.key holds no key in PEM",
        ),
        (
            "empty",
            &|folder| fs::write(folder.join("ca.crt"), "").unwrap(),
            "ca.crt holds no certificate",
        ),
        (
            "gone",
            &|folder| fs::remove_file(folder.join("issuing.crt")).unwrap(),
            "issuing.crt cannot be read",
        ),
        (
            "mixed",
            &|folder| copy(&other, folder, "issuing.key"),
            "do not fit together",
        ),
        (
            "foreign",
            &|folder| copy(&other, folder, "ca.crt"),
            "do not fit together",
        ),
        (
            "open",
            &|folder| unconstrained(folder),
            "not constrained to hosts",
        ),
        ("file", &|folder| file_instead(folder), "it is no folder"),
    ];
    for (name, spoil, reason) in spoilt {
        let dir = empty(name);
        root(&dir);
        spoil(&dir.join("ca"));
        let error = Authority::open(&options(&dir)).unwrap_err().to_string();
        assert!(error.contains(reason), "{name}: {error}");
        assert!(error.contains("remove"), "{name}: {error}");
        assert!(!error.contains("BEGIN"), "{name}: {error}");
        assert_eq!(inspect(&dir).unwrap_err().to_string(), error);
    }
    let none = empty("none");
    inspect(&none).unwrap();
    assert_eq!(
        fs::read_dir(none).unwrap().count(),
        0,
        "to look makes something"
    );
}

fn cut(file: &Path) {
    let text = fs::read(file).unwrap();
    fs::write(file, &text[..text.len() / 2]).unwrap();
}

fn copy(from: &Path, folder: &Path, file: &str) {
    fs::copy(from.join("ca").join(file), folder.join(file)).unwrap();
}

/// A CA of somebody else, which may sign for every host.
fn unconstrained(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap().pem();
    for (file, text) in [
        ("ca.crt", &ca),
        ("issuing.crt", &ca),
        ("issuing.key", &key.serialize_pem()),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
}

fn file_instead(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::write(folder, "").unwrap();
}

#[test]
fn a_host_that_the_ca_may_not_speak_for_is_told_of_and_the_others_go_on() {
    let dir = empty("uncovered");
    let mut more = options(&dir);
    root(&dir);
    more.hosts.push("qyapi.weixin.qq.com".to_owned());
    let authority = Authority::open(&more).unwrap();
    assert_eq!(authority.uncovered(), ["qyapi.weixin.qq.com"]);
    assert!(!authority.has("qyapi.weixin.qq.com"));
    assert!(authority.has("api.weixin.qq.com"));
    authority.set_hosts(&options(&dir).hosts).unwrap();
    assert!(authority.uncovered().is_empty());
    fs::remove_dir_all(dir.join("ca")).unwrap();
    let authority = Authority::open(&more).unwrap();
    assert!(authority.has("qyapi.weixin.qq.com") && authority.uncovered().is_empty());
}
