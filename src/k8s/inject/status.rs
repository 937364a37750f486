//! The record of what was added to a pod. It is kept in the pod, so that nothing is added twice and all can be removed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CONTAINER, InjectRefusal,
    names::{Prefix, word},
    object::{self, DEFAULT_CONTAINER, list},
    transparent,
    trust::{self, HttpsStatus},
};

/// The content of the annotation, as JSON.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct InjectionStatus {
    /// The version that injected it.
    pub(super) version: String,
    /// native or classic.
    pub(super) sidecar: String,
    /// The base URL that was given to the app's containers.
    pub(super) base_url: String,
    /// The containers that got it.
    pub(super) containers: Vec<String>,
    /// The volumes that the sidecar mounts.
    pub(super) volumes: Vec<String>,
    /// The Secret for pulling images that was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pull_secret: Option<String>,
    /// What about the limits does not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
    /// Whether WeChat's host name was pointed to the pod.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) host_alias: bool,
    /// What was done for transparent https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) https: Option<HttpsStatus>,
    /// Whether the sysctl for port 80 was set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) sysctl: bool,
    /// Whether the app's first container was made the default one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) default_container: bool,
}

impl InjectionStatus {
    /// Reads the record in `pod`.
    pub(super) fn of(pod: &Value, prefix: &Prefix) -> Result<Option<Self>, InjectRefusal> {
        let key = prefix.key("status");
        let Some(status) = word(pod, "annotations", &key, "the pod's")? else {
            return Ok(None);
        };
        serde_json::from_str(status).map(Some).map_err(|_| {
            InjectRefusal::new(format!(
                "the pod's annotation {key}: injection wrote this, and it was changed since; \
                 remove it together with what was injected"
            ))
        })
    }

    /// Writes the record to `pod`.
    pub(super) fn write(&self, pod: &mut Value, prefix: &Prefix) {
        let text = serde_json::to_string(self).unwrap_or_default();
        object::annotate(pod, &prefix.key("status"), &text);
    }

    /// Removes all that was added from the pod.
    pub(super) fn undo(&self, pod: &Value, prefix: &Prefix) -> Value {
        let mut pod = pod.clone();
        for containers in object::CONTAINERS {
            let all = list(&mut pod["spec"], containers);
            all.retain(|container| container["name"] != CONTAINER);
            for container in all {
                let name = container["name"].as_str().unwrap_or_default();
                if self.containers.iter().any(|known| known == name) {
                    list(container, "env").retain(|variable| {
                        variable["name"] != object::BASE_URL || variable["value"] != *self.base_url
                    });
                    object::prune(container, "env");
                }
                if let Some(https) = &self.https {
                    trust::remove(container, https);
                }
            }
            object::prune(&mut pod["spec"], containers);
        }
        let ours = |volume: &Value| {
            let name = volume["name"].as_str().unwrap_or_default();
            self.volumes.iter().any(|known| known == name)
        };
        list(&mut pod["spec"], "volumes").retain(|volume| !ours(volume));
        object::prune(&mut pod["spec"], "volumes");
        if let Some(secret) = &self.pull_secret {
            list(&mut pod["spec"], "imagePullSecrets").retain(|other| other["name"] != **secret);
            object::prune(&mut pod["spec"], "imagePullSecrets");
        }
        let host = self.host_alias.then_some(transparent::HOST);
        let more = self.https.iter().flat_map(|https| &https.hosts);
        let hosts = host.into_iter().chain(more.map(String::as_str));
        transparent::remove_host_aliases(&mut pod, hosts);
        if self.sysctl {
            transparent::remove_sysctl(&mut pod);
        }
        if self.default_container {
            object::remove_annotation(&mut pod, DEFAULT_CONTAINER);
        }
        object::remove_annotation(&mut pod, &prefix.key("status"));
        pod
    }
}
