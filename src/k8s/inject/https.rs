//! Transparent https: what the sidecar needs to be WeChat's hosts over TLS, and where the files are that apps trust.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    names::is_dns_name,
    trust_env::{TRUST_FOLDER, TrustEnv},
};
use crate::wechat::hosts;

/// The port of https.
pub(super) const HTTPS_PORT: u16 = 443;

/// The volume with the files that apps trust.
pub(super) const TRUST_VOLUME: &str = "wechat-sidecar-trust";

/// The volume with the key of the CA. Only the sidecar mounts it.
const CA_VOLUME: &str = "wechat-sidecar-ca";
const CA_FOLDER: &str = "/run/wechat-sidecar/ca";

/// The volume with the roots of a company.
const ROOTS_VOLUME: &str = "wechat-sidecar-roots";
const ROOTS_FOLDER: &str = "/etc/wechat-sidecar-roots";

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigMapKey {
    pub(super) name: String,
    pub(super) key: String,
}

/// The settings of transparent https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpsSettings {
    /// The hosts beside WeChat's.
    pub(super) more_hosts: Vec<String>,
    /// The clients whose roots are replaced.
    pub(super) trust_env: Vec<TrustEnv>,
    /// The roots of a company.
    pub(super) trust_also: Option<ConfigMapKey>,
}

/// Why a list of hosts cannot be taken, as a phrase about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotHosts {
    /// One of them is no name.
    #[error("is not a list of host names, separated by commas")]
    Malformed,
    /// One of them is WeChat Pay's.
    #[error(
        "has {PAY}, which is WeChat Pay's: its calls take no access_token, and the sidecar would refuse them"
    )]
    Pay,
}

/// WeChat Pay.
const PAY: &str = "api.mch.weixin.qq.com";

/// Parses a list of hosts. A name without a dot, such as localhost, is none of an API's.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, NotHosts> {
    let is_host =
        |name: &str| name.contains('.') && is_dns_name(name) && name.parse::<IpAddr>().is_err();
    let mut hosts: Vec<String> = Vec::new();
    for name in text.split(',').map(|name| name.trim().to_ascii_lowercase()) {
        if !is_host(&name) {
            return Err(NotHosts::Malformed);
        }
        if name == PAY {
            return Err(NotHosts::Pay);
        }
        if !hosts.contains(&name) {
            hosts.push(name);
        }
    }
    Ok(hosts)
}

impl HttpsSettings {
    /// All hosts that lead to the sidecar.
    pub(super) fn hosts(&self) -> Vec<String> {
        let wechat = hosts::WECHAT.map(str::to_owned);
        let more = self.more_hosts.iter();
        let more = more.filter(|host| !wechat.contains(host)).cloned();
        let more: Vec<String> = more.collect();
        wechat.into_iter().chain(more).collect()
    }

    /// The volumes. The key outlives the sidecar's container, and never touches a disk. The other one is in memory
    /// as well, because a node with a pod that has a folder on its disk is not scaled down.
    pub(super) fn volumes(&self) -> Vec<Value> {
        let in_memory = |name: &str, size: &str| json!({ "name": name, "emptyDir": { "medium": "Memory", "sizeLimit": size } });
        let mut volumes = vec![in_memory(CA_VOLUME, "1Mi"), in_memory(TRUST_VOLUME, "16Mi")];
        volumes.extend(self.trust_also.as_ref().map(|ConfigMapKey { name, key }| {
            json!({ "name": ROOTS_VOLUME, "configMap": { "name": name, "items": [{ "key": key, "path": key }] } })
        }));
        volumes
    }

    /// Where the sidecar mounts them.
    pub(super) fn mounts(&self) -> Vec<Value> {
        let own = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
        let mut mounts = vec![own(CA_VOLUME, CA_FOLDER), own(TRUST_VOLUME, TRUST_FOLDER)];
        mounts.extend(self.trust_also.as_ref().map(
            |roots| json!({ "name": ROOTS_VOLUME, "mountPath": roots.folder(), "readOnly": true }),
        ));
        mounts
    }

    /// The sidecar's variables.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            (
                "WECHAT_SIDECAR_TLS_LISTEN",
                format!("127.0.0.1:{HTTPS_PORT}"),
            ),
            ("WECHAT_SIDECAR_CA_DIR", CA_FOLDER.to_owned()),
            ("WECHAT_SIDECAR_TRUST_DIR", TRUST_FOLDER.to_owned()),
        ];
        let also = self.trust_also.as_ref().map(|roots| {
            let file = format!("{}/{}", roots.folder(), roots.key);
            ("WECHAT_SIDECAR_TRUST_ALSO", file)
        });
        environment.extend(also);
        environment
    }
}

impl ConfigMapKey {
    /// Where it is mounted. The path names it, so that an error about the file says which ConfigMap to correct.
    fn folder(&self) -> String {
        format!("{ROOTS_FOLDER}/{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_hosts_has_names_alone() {
        let read = hosts("qyapi.weixin.qq.com, WeChat.corp.example,qyapi.weixin.qq.com");
        assert_eq!(
            read.unwrap(),
            ["qyapi.weixin.qq.com", "wechat.corp.example"]
        );
        for bad in [
            "",
            ",",
            "a.b,",
            "localhost",
            "10.0.0.1",
            "a.b:443",
            "https://a.b",
            "*.a.b",
            "a_b.c",
        ] {
            assert_eq!(hosts(bad), Err(NotHosts::Malformed), "{bad}");
        }
        assert_eq!(hosts("a.b, API.mch.weixin.qq.com"), Err(NotHosts::Pay));
    }

    #[test]
    fn a_host_of_wechats_is_named_once() {
        let https = HttpsSettings {
            more_hosts: hosts("qyapi.weixin.qq.com,api.weixin.qq.com").unwrap(),
            trust_env: Vec::new(),
            trust_also: None,
        };
        let hosts = https.hosts();
        assert_eq!(hosts.len(), 7, "{hosts:?}");
        assert_eq!(hosts[6], "qyapi.weixin.qq.com");
    }
}
