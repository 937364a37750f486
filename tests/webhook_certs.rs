//! `webhook-certs` makes a Secret to apply and a patch that cannot be applied alone, and ends no trust that is in use.
#![allow(clippy::unwrap_used)]

#[path = "webhook/support.rs"]
#[allow(dead_code)]
mod support;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::Webhook;

/// A folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("wechat-sidecar-certs-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn patch(&self) -> PathBuf {
        self.0.join("ca-patch.yaml")
    }

    fn secret(&self) -> PathBuf {
        self.0.join("secret.yaml")
    }

    /// Makes both files, with more flags and this standard input.
    fn certs(&self, flags: &[&str], stdin: &str) -> Output {
        let (patch, secret) = (self.patch(), self.secret());
        let files = ["--patch-file", patch.to_str().unwrap()];
        let more = ["--secret-file", secret.to_str().unwrap()];
        webhook_certs(&[&files, &more, flags].concat(), stdin)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn webhook_certs(flags: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"))
        .arg("webhook-certs")
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command need not read it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The caBundle in a patch, as base64. It is the same for both webhooks.
fn bundle(patch: &Path) -> String {
    let patch = yaml(patch);
    let bundles = patch["webhooks"].as_array().unwrap().iter();
    let mut bundles: Vec<_> = bundles
        .map(|webhook| webhook["clientConfig"]["caBundle"].as_str().unwrap())
        .collect();
    bundles.dedup();
    assert_eq!(bundles.len(), 1);
    bundles[0].to_owned()
}

/// The certificates of a bundle.
fn certificates(bundle: &str) -> Vec<reqwest::Certificate> {
    reqwest::Certificate::from_pem_bundle(&STANDARD.decode(bundle).unwrap()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A CA as PEM that expires in so many seconds, or has expired.
fn root(expires: i64) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(86_400)).into();
    let seconds = Duration::from_secs(expires.unsigned_abs());
    params.not_after = match expires {
        ..0 => (now - seconds).into(),
        _ => (now + seconds).into(),
    };
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn what_was_once_piped_to_kubectl_apply_prints_nothing_and_says_what_to_do() {
    let service = ["--service", "wechat-sidecar-injector"];
    let namespace = ["--namespace", "wechat-sidecar"];
    for more in [
        &[][..],
        &["--format", "manifests"],
        &["--patch-file", "/nonexistent/patch"],
        &["--secret-file", "/nonexistent/secret"],
        &["--configuration", "mine"],
    ] {
        let done = webhook_certs(&[&service[..], &namespace, more].concat(), "");
        assert_eq!(done.status.code(), Some(64), "{more:?}");
        assert!(done.stdout.is_empty(), "{more:?}");
        let said = stderr(&done);
        let named = match more {
            ["--configuration", name] => name,
            _ => "wechat-sidecar-injector",
        };
        for text in [
            "--patch-file",
            "--secret-file",
            &format!("kubectl patch mutatingwebhookconfiguration {named} --patch-file"),
            "kubectl apply --server-side -f",
        ] {
            assert!(said.contains(text), "{text}: {said}");
        }
    }
}

#[test]
fn the_patch_has_names_and_a_ca_and_is_no_object() {
    let folder = Folder::new("patch");
    let done = folder.certs(&["--prefix", "wechat.example"], "");
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(done.stdout.is_empty());
    let bundle = bundle(&folder.patch());
    let webhook = |name: &str| json!({ "name": name, "clientConfig": { "caBundle": bundle } });
    let wanted = [
        "namespace.inject.wechat.example",
        "pod.inject.wechat.example",
        "unclear-namespace.inject.wechat.example",
        "unclear-pod.inject.wechat.example",
    ]
    .map(webhook);
    assert_eq!(yaml(&folder.patch()), json!({ "webhooks": wanted }));
    assert_eq!(certificates(&bundle).len(), 1);
    // The next commands are printed with the names of the files.
    let said = stderr(&done);
    for path in [folder.patch(), folder.secret()] {
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
}

#[test]
fn the_file_of_the_secret_is_its_owners_alone() {
    let folder = Folder::new("mode");
    let mode = || fs::metadata(folder.secret()).unwrap().permissions().mode() & 0o777;
    assert!(folder.certs(&[], "").status.success());
    assert_eq!(mode(), 0o600);
    let first = yaml(&folder.secret());
    fs::set_permissions(folder.secret(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(folder.certs(&[], "").status.success());
    assert_eq!(mode(), 0o600);
    assert_ne!(first, yaml(&folder.secret()));
    let said = stderr(&folder.certs(&[], ""));
    let key = yaml(&folder.secret())["data"]["tls.key"].clone();
    assert!(!said.contains(key.as_str().unwrap()));
}

#[test]
fn a_secret_for_a_pipe_is_all_that_is_printed() {
    let folder = Folder::new("pipe");
    let patch = folder.patch();
    let files = ["--patch-file", patch.to_str().unwrap()];
    let done = webhook_certs(
        &[&files[..], &["--secret-file", "/dev/stdout"]].concat(),
        "",
    );
    assert!(done.status.success(), "{}", stderr(&done));
    let secret: Value = serde_saphyr::from_slice(&done.stdout).unwrap();
    assert_eq!(secret["kind"], "Secret");
    assert_eq!(secret["data"]["ca.crt"], json!(bundle(&patch)));
}

#[tokio::test]
async fn while_certificates_roll_the_old_one_and_the_new_one_are_trusted() {
    let webhook = Webhook::start(&[]).await;
    let folder = Folder::new("roll");
    let old = fs::read_to_string(webhook.folder.join("ca.crt")).unwrap();
    let done = folder.certs(&["--old-ca", "-"], &STANDARD.encode(&old));
    assert!(done.status.success(), "{}", stderr(&done));
    let trusted = || certificates(&bundle(&folder.patch()));
    assert_eq!(trusted().len(), 2);
    let ready = async |client| {
        let page = webhook.get(&client, "/readyz").await;
        page.is_ok_and(|page| page.status == 200)
    };
    assert!(ready(webhook.trusting(trusted())).await);

    let secret = yaml(&folder.secret());
    for name in ["tls.crt", "tls.key"] {
        let data = STANDARD.decode(secret["data"][name].as_str().unwrap());
        fs::write(webhook.folder.join(name), data.unwrap()).unwrap();
    }
    webhook.says("the certificate changed").await;
    assert!(ready(webhook.trusting(trusted())).await);
    let alone = certificates(secret["data"]["ca.crt"].as_str().unwrap());
    assert!(ready(webhook.trusting(alone)).await);
    let old = certificates(&STANDARD.encode(old));
    assert!(!ready(webhook.trusting(old)).await);
}

#[test]
fn what_is_trusted_already_stays_so_once_and_until_it_expires() {
    let folder = Folder::new("old");
    let (first, second, expired) = (root(60), root(86_400), root(-60));
    let old = format!("{first}{expired}{second}{first}");
    let wrapped: Vec<String> = STANDARD
        .encode(&old)
        .into_bytes()
        .chunks(75)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    for given in [old.clone(), STANDARD.encode(&old), wrapped.join("\n")] {
        let done = folder.certs(&["--old-ca", "-"], &given);
        assert!(done.status.success(), "{}", stderr(&done));
        let made = STANDARD.decode(bundle(&folder.patch())).unwrap();
        let secret = yaml(&folder.secret());
        let new = STANDARD.decode(secret["data"]["ca.crt"].as_str().unwrap());
        let new = String::from_utf8(new.unwrap()).unwrap();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let made = lines(&String::from_utf8(made).unwrap());
        assert_eq!(made, lines(&format!("{new}{first}{second}")));
    }
    // The values of the chart have them as well, and the old CA can come from a file.
    let file = folder.0.join("old.pem");
    fs::write(&file, old).unwrap();
    let path = file.to_str().unwrap();
    let done = webhook_certs(&["--format", "values", "--old-ca", path], "");
    let values: Value = serde_saphyr::from_slice(&done.stdout).unwrap();
    let bundle = values["certificates"]["caBundle"].as_str().unwrap();
    assert_eq!(certificates(bundle).len(), 3);
}

#[test]
fn an_old_ca_that_is_none_is_refused_before_anything_is_written() {
    let folder = Folder::new("refused");
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (given, problem) in [
        ("", "it is empty; leave --old-ca out"),
        ("\n", "it is empty; leave --old-ca out"),
        ("Error from server (NotFound)", "it holds no certificate"),
        (&STANDARD.encode("not PEM"), "it holds no certificate"),
        (&key, "it holds no certificate"),
        (broken, "a certificate in it is broken"),
        (nonsense, "a certificate in it is broken"),
    ] {
        let done = folder.certs(&["--old-ca", "-"], given);
        assert_eq!(done.status.code(), Some(1), "{given}");
        let said = stderr(&done);
        assert!(said.contains(&format!("--old-ca: -: {problem}")), "{said}");
        assert!(!folder.patch().exists() && !folder.secret().exists());
    }
    let missing = folder.certs(&["--old-ca", "/nonexistent/ca"], "");
    assert!(stderr(&missing).contains("--old-ca: /nonexistent/ca: No such file"));
}

#[test]
fn files_that_do_not_go_together_are_refused() {
    for (flags, problem) in [
        (
            &[
                "--patch-file",
                "/nonexistent/a",
                "--secret-file",
                "/nonexistent/a",
            ][..],
            "--secret-file: it must be another file than --patch-file",
        ),
        (
            &["--format", "values", "--patch-file", "/nonexistent/a"],
            "--patch-file: --format values prints all of it on stdout",
        ),
        (&["--format", "json"], "--format: the value is neither"),
    ] {
        let done = webhook_certs(flags, "");
        assert_eq!(done.status.code(), Some(64), "{flags:?}");
        assert!(done.stdout.is_empty());
        assert!(stderr(&done).contains(problem), "{}", stderr(&done));
    }
}

#[test]
fn a_patch_is_not_written_when_its_secret_cannot_be() {
    let folder = Folder::new("half");
    assert!(folder.certs(&[], "").status.success());
    let (patch, nowhere) = (folder.patch(), folder.0.join("missing/secret.yaml"));
    let (patch, nowhere) = (patch.to_str().unwrap(), nowhere.to_str().unwrap());
    let done = webhook_certs(&["--patch-file", patch, "--secret-file", nowhere], "");
    assert_eq!(done.status.code(), Some(1));
    let said = stderr(&done);
    assert!(
        said.contains(&format!("--secret-file: {nowhere}: No such file")),
        "{said}"
    );
    assert_eq!(fs::read_to_string(patch).unwrap(), "");
}
