//! `webhook-certs`: a certificate for the webhook where no cert-manager makes one.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::inject::{names::Prefix, yaml};

/// For which Service, and what is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// The webhook's Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// The Secret to make.
    pub secret: String,
    /// The MutatingWebhookConfiguration that trusts the certificate.
    pub configuration: String,
    /// Of labels and annotations, and so of the webhooks' names.
    pub prefix: Prefix,
    /// How long the certificate is valid.
    pub days: u32,
    /// What is written.
    pub format: ManifestFormat,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestFormat {
    /// Objects for `kubectl apply --server-side`.
    Manifests,
    /// Values of the Helm chart.
    Values,
}

/// The names of both webhooks, before the prefix.
pub const WEBHOOKS: [&str; 2] = ["namespace.inject", "pod.inject"];

/// A clock in the cluster may be behind ours.
const EARLIER: Duration = Duration::from_secs(3600);

struct Certificates {
    ca: String,
    certificate: String,
    key: String,
}

/// The text for stdout. The key of the root is forgotten: the next certificate comes with a root of
/// its own. The error is a sentence.
pub fn certificates(options: &Options) -> Result<String, String> {
    let made = make(options).map_err(|error| format!("no certificate can be made: {error}"))?;
    let documents = match options.format {
        ManifestFormat::Manifests => manifests(options, &made),
        ManifestFormat::Values => vec![json!({
            "certificates": {
                "source": "provided",
                "caBundle": STANDARD.encode(&made.ca),
                "cert": made.certificate,
                "key": made.key,
            },
        })],
    };
    let documents: Result<Vec<String>, String> = documents.iter().map(yaml::write).collect();
    let documents = documents?;
    Ok(documents.join("---\n"))
}

fn manifests(options: &Options, made: &Certificates) -> Vec<Value> {
    let bundle = STANDARD.encode(&made.ca);
    let service =
        json!({ "name": options.service, "namespace": options.namespace, "path": "/inject" });
    // No more than the API server asks of a webhook: the rest is whose object it is.
    let webhooks = WEBHOOKS.iter().map(|name| {
        json!({
            "name": options.prefix.under(name),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": { "service": service, "caBundle": bundle },
        })
    });
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": options.secret, "namespace": options.namespace },
            "type": "kubernetes.io/tls",
            "data": {
                "ca.crt": bundle,
                "tls.crt": STANDARD.encode(&made.certificate),
                "tls.key": STANDARD.encode(&made.key),
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": options.configuration },
            "webhooks": webhooks.collect::<Vec<_>>(),
        }),
    ]
}

fn make(options: &Options) -> Result<Certificates, rcgen::Error> {
    let root_key = KeyPair::generate()?;
    let mut root = params(options, Vec::new(), "wechat-sidecar webhook root")?;
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = root.self_signed(&root_key)?.pem();

    let Options {
        service, namespace, ..
    } = options;
    let names = [
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ];
    let key = KeyPair::generate()?;
    let mut own = params(options, names.to_vec(), &names[0])?;
    own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    own.use_authority_key_identifier_extension = true;
    let certificate = own.signed_by(&key, &Issuer::new(root, root_key))?.pem();
    Ok(Certificates {
        ca,
        certificate,
        key: key.serialize_pem(),
    })
}

fn params(
    options: &Options,
    names: Vec<String>,
    called: &str,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    // A common name has at most 64 characters; clients look at the other names.
    name.push(
        DnType::CommonName,
        called.chars().take(64).collect::<String>(),
    );
    params.distinguished_name = name;
    let now = std::time::SystemTime::now();
    params.not_before = (now - EARLIER).into();
    params.not_after = (now + Duration::from_secs(u64::from(options.days) * 86_400)).into();
    Ok(params)
}
