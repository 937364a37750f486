//! Makes certificates: a root, the issuing CA below it, and leaves.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use ring::digest;
use rustls::{
    crypto,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use zeroize::Zeroize;

use super::error::CaError;

/// How long a root and its issuing CA are valid: ten years. A root can sign nothing any more, and whoever has loaded
/// it must be restarted for another one.
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// How long before now a root is valid. The clock of a machine that starts may be wrong.
const ROOT_BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// How long a leaf is valid from now on.
pub(super) const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long before now a leaf is valid.
pub(super) const LEAF_BACKDATED: Duration = Duration::from_secs(3600);

/// The beginning of a root's name.
pub(super) const ROOT_NAME: &str = "wechat-sidecar local root ";

/// The longest common name of a certificate.
const LONGEST_NAME: usize = 64;

/// The certificates of a CA and its key.
pub(super) struct NewCa {
    pub(super) root: CertificateDer<'static>,
    pub(super) issuing: CertificateDer<'static>,
    pub(super) key: KeyPair,
}

/// A CA that makes leaves.
pub(super) struct IssuingCa {
    pub(super) root: CertificateDer<'static>,
    issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// Makes a CA for these hosts and all names below them. The key of the root signs once, and is given up. Its bytes
/// are wiped here; ring has a copy, which it does not wipe.
pub(super) fn new_ca(hosts: &[String], now: SystemTime) -> Result<NewCa, CaError> {
    let (mut root_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let id = id(&root_key);
    let valid = now - ROOT_BACKDATED..now + ROOT_LIFE;
    let root = ca_params(&format!("{ROOT_NAME}{id}"), valid.clone(), hosts, 1)?;
    let name = format!("wechat-sidecar local issuing CA {id}");
    let mut issuing = ca_params(&name, valid, hosts, 0)?;
    issuing.use_authority_key_identifier_extension = true;
    let made = {
        let signer = Issuer::from_params(&root, &root_key);
        (
            root.self_signed(&root_key)?,
            issuing.signed_by(&key, &signer)?,
        )
    };
    root_key.zeroize();
    let (root, issuing) = (made.0.into(), made.1.into());
    Ok(NewCa { root, issuing, key })
}

/// Eight letters that are of this key alone. Two roots have different names, so that clients tell them apart.
fn id(key: &KeyPair) -> String {
    let digest = digest::digest(&digest::SHA256, key.public_key_raw());
    let bytes = digest.as_ref().iter().take(4);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn ca_params(
    name: &str,
    valid: Range<SystemTime>,
    hosts: &[String],
    below: u8,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(Vec::new(), name, valid)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let hosts = hosts.iter().cloned().map(GeneralSubtree::DnsName);
    // Constraints of one kind of name leave the other kinds open.
    let addresses = [
        CidrSubnet::V4([0; 4], [0; 4]),
        CidrSubnet::V6([0; 16], [0; 16]),
    ];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: hosts.collect(),
        excluded_subtrees: addresses.map(GeneralSubtree::IpAddress).to_vec(),
    });
    Ok(params)
}

/// The parameters of a certificate for these hosts.
pub(crate) fn params(
    hosts: Vec<String>,
    name: &str,
    valid: Range<SystemTime>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    let mut subject = DistinguishedName::new();
    // Clients check the hosts.
    let name: String = name.chars().take(LONGEST_NAME).collect();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = valid.start.into();
    params.not_after = valid.end.into();
    Ok(params)
}

/// The parameters of a server's certificate that a CA signs.
pub(crate) fn server_params(
    hosts: Vec<String>,
    name: &str,
    valid: Range<SystemTime>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(hosts, name, valid)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python 3.13 refuses a certificate without it.
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

impl IssuingCa {
    /// A CA of these certificates. `key` is that of `issuing`.
    pub(super) fn new(
        root: CertificateDer<'static>,
        issuing: CertificateDer<'static>,
        key: KeyPair,
    ) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_der(&issuing, key)?;
        Ok(Self {
            root,
            issuing,
            issuer,
        })
    }

    /// The issuing certificate.
    pub(super) fn issuing(&self) -> &CertificateDer<'static> {
        &self.issuing
    }

    /// A leaf for all of `hosts`, with a key of its own. There is at least one host.
    pub(super) fn leaf(&self, hosts: &[String], now: SystemTime) -> Result<CertifiedKey, CaError> {
        let valid = now - LEAF_BACKDATED..now + LEAF_LIFE;
        let name = hosts.first().map_or("", String::as_str);
        let params = server_params(hosts.to_vec(), name, valid)?;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let chain = vec![leaf.into(), self.issuing.clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(CertifiedKey::from_der(
            chain,
            key,
            &crypto::ring::default_provider(),
        )?)
    }
}
