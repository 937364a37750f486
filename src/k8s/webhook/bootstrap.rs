//! `webhook-certs`: a certificate for the webhook, for clusters without cert-manager.

use std::{
    fmt::Display,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::time::Duration;

use super::{ca_bundle, error::BootstrapError};
use crate::{
    ca::issue,
    k8s::inject::{names::Prefix, yaml},
    os::{OpenOptionsExt, set_file_mode},
};

/// The options of `webhook-certs`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the webhook's Service.
    pub service: String,
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Secret.
    pub secret: String,
    /// The name of the MutatingWebhookConfiguration that will trust the certificate.
    pub configuration: String,
    /// The prefix of labels and annotations, and so of the webhooks' names.
    pub prefix: Prefix,
    /// How long the certificate is valid.
    pub days: u32,
    /// A file with the CA that is trusted now; `-` for stdin.
    pub old_ca: Option<String>,
    /// The kind of output.
    pub output: Output,
}

/// The kind of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Two files for kubectl.
    Files {
        /// The Secret, for `kubectl apply`.
        secret: PathBuf,
        /// The patch of the MutatingWebhookConfiguration, for `kubectl patch`.
        patch: PathBuf,
    },
    /// Values of the Helm chart, on stdout.
    Values,
}

/// The output of a successful run.
#[allow(missing_debug_implementations)] // It may hold a key.
pub struct Printed {
    /// The text on stdout, for Helm.
    pub stdout: String,
    /// The message for the operator; may be empty.
    pub stderr: String,
}

/// The names of all webhooks, without the prefix.
pub const WEBHOOKS: [&str; 4] = [
    "namespace.inject",
    "pod.inject",
    "unclear-namespace.inject",
    "unclear-pod.inject",
];

/// A clock in the cluster may be slow.
const EARLIER: Duration = Duration::from_secs(3600);

/// Only the owner may read the file of a Secret. The umask decides about that of a patch.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o666;

struct Certificates {
    ca: CertificateDer<'static>,
    certificate: String,
    key: String,
}

/// Makes a certificate and writes it. The key of the root is discarded, so the next certificate has another root.
pub fn certificates(options: &Options) -> Result<Printed, BootstrapError> {
    let old = options.old_ca.as_deref().map(old_ca).transpose()?;
    let made = make(options).map_err(BootstrapError::Make)?;
    let bundle = ca_bundle::pem(&made.ca, &old.unwrap_or_default());
    let (stdout, stderr) = match &options.output {
        Output::Values => (yaml::write(&values(&made, &bundle))?, String::new()),
        Output::Files { secret, patch } => {
            let texts = [
                yaml::write(&self::patch(options, &bundle))?,
                yaml::write(&self::secret(options, &made))?,
            ];
            write_both(patch, secret, &texts)?;
            let (patch, secret) = (patch.display(), secret.display());
            let next = next(&options.configuration, &patch, &secret);
            let done = format!("{patch} and {secret} are written; the second holds a key. {next}");
            (String::new(), done)
        }
    };
    Ok(Printed { stdout, stderr })
}

/// The commands that apply the two files.
pub fn next(configuration: &str, patch: &dyn Display, secret: &dyn Display) -> String {
    format!(
        "The two files go to the cluster in this order:\n  \
         kubectl patch mutatingwebhookconfiguration {configuration} --patch-file {patch}\n  \
         kubectl apply --server-side -f {secret}"
    )
}

/// The CAs that are trusted now, without expired ones.
fn old_ca(file: &str) -> Result<Vec<CertificateDer<'static>>, BootstrapError> {
    let mut text = String::new();
    let read = match file {
        "-" => io::stdin().lock().read_to_string(&mut text),
        path => File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    let named = || file.to_owned();
    read.map_err(|error| BootstrapError::OldCa {
        file: named(),
        error,
    })?;
    ca_bundle::read(&text).map_err(|error| BootstrapError::OldBundle {
        file: named(),
        error,
    })
}

/// Writes the texts of a patch and of a Secret. If one of the files cannot be opened, the other one is not written
/// either, so that they match.
fn write_both(patch: &Path, secret: &Path, texts: &[String; 2]) -> Result<(), BootstrapError> {
    let files = [("--patch-file", patch), ("--secret-file", secret)];
    let wrong = |(flag, path): (&'static str, &Path), error| BootstrapError::Write {
        flag,
        path: path.to_owned(),
        error,
    };
    let mut open = Vec::new();
    for (file, mode) in files.into_iter().zip([PUBLIC, PRIVATE]) {
        open.push(create(file.1, mode).map_err(|error| wrong(file, error))?);
    }
    for ((file, mut open), text) in files.into_iter().zip(open).zip(texts) {
        let written = open.write_all(text.as_bytes());
        written.map_err(|error| wrong(file, error))?;
    }
    Ok(())
}

/// Creates an empty file. A named pipe stays as it is.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let file = options.open(path)?;
    // The file may have existed, and been readable for others.
    if mode == PRIVATE && file.metadata()?.is_file() {
        set_file_mode(&file, mode)?;
    }
    Ok(file)
}

fn values(made: &Certificates, bundle: &str) -> Value {
    json!({
        "certificates": {
            "source": "provided",
            "caBundle": STANDARD.encode(bundle),
            "cert": made.certificate,
            "key": made.key,
        },
    })
}

fn secret(options: &Options, made: &Certificates) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": options.secret, "namespace": options.namespace },
        "type": "kubernetes.io/tls",
        "data": {
            "ca.crt": STANDARD.encode(ca_bundle::pem(&made.ca, &[])),
            "tls.crt": STANDARD.encode(&made.certificate),
            "tls.key": STANDARD.encode(&made.key),
        },
    })
}

/// A strategic merge patch. It has no kind, so that it cannot be applied: `kubectl apply` would take over the whole
/// configuration, and remove the rules and selectors that are not in it. It has no Service either, because a webhook
/// of this name that does not exist would be added, and the API server refuses one without a Service.
fn patch(options: &Options, bundle: &str) -> Value {
    let bundle = STANDARD.encode(bundle);
    let webhooks = WEBHOOKS.iter().map(
        |name| json!({ "name": options.prefix.under(name), "clientConfig": { "caBundle": bundle } }),
    );
    json!({ "webhooks": webhooks.collect::<Vec<_>>() })
}

fn make(options: &Options) -> Result<Certificates, rcgen::Error> {
    let root_key = KeyPair::generate()?;
    let mut root = issue::params(Vec::new(), "wechat-sidecar webhook root", valid(options))?;
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = root.self_signed(&root_key)?.der().clone();

    let Options {
        service, namespace, ..
    } = options;
    let names = [
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ];
    let key = KeyPair::generate()?;
    let own = issue::server_params(names.to_vec(), &names[0], valid(options))?;
    let certificate = own.signed_by(&key, &Issuer::new(root, root_key))?.pem();
    Ok(Certificates {
        ca,
        certificate,
        key: key.serialize_pem(),
    })
}

fn valid(options: &Options) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - EARLIER..now + Duration::from_secs(u64::from(options.days) * 86_400)
}
