//! Who else is in a pod: service meshes and other injectors, whose containers are not the app's.

use serde_json::Value;

use super::{
    names::text,
    object::{containers, items},
};

/// Containers that are put into pods by others.
const STRANGERS: [&str; 9] = [
    "istio-init",
    "istio-proxy",
    "istio-validation",
    "linkerd-debug",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
    "vault-agent",
    "vault-agent-init",
];

/// Labels and annotations by which a mesh is asked for, with the value that does.
const WISHES: [(&str, &str); 3] = [
    ("sidecar.istio.io/inject", "true"),
    ("linkerd.io/inject", "enabled"),
    ("linkerd.io/inject", "ingress"),
];

/// Whether a container of this name belongs to somebody else than the app.
pub(super) fn is_stranger(name: &str) -> bool {
    STRANGERS.contains(&name)
}

/// Whether a mesh is in the pod, or asked for: what comes from the kubelet over the network then goes
/// through its proxy, which may not be there yet, or may not let it pass.
pub(super) fn has_mesh(pod: &Value) -> bool {
    let is_proxy = |container: &Value| {
        container["name"] == "istio-proxy" || container["name"] == "linkerd-proxy"
    };
    let wished = |(key, value): &(&str, &str)| {
        let says = |kind| text(pod, kind, key) == Some(*value);
        says("labels") || says("annotations")
    };
    containers(pod).any(is_proxy)
        || WISHES.iter().any(wished)
        || text(pod, "labels", "istio.io/rev").is_some()
}

/// Why a sidecar that is a Linux program cannot stand in the pod, if it is one for Windows.
pub(super) fn runs_on_windows(pod: &Value) -> bool {
    const OS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
    let spec = &pod["spec"];
    let selected = OS.iter().any(|key| spec["nodeSelector"][key] == "windows");
    let host_process = spec["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let affinity = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let terms = items(pod, &format!("{affinity}/nodeSelectorTerms"));
    let windows_only = |term: &Value| {
        items(term, "/matchExpressions").iter().any(|wanted| {
            OS.iter().any(|key| wanted["key"] == *key)
                && wanted["operator"] == "In"
                && wanted["values"] == serde_json::json!(["windows"])
        })
    };
    spec["os"]["name"] == "windows"
        || selected
        || host_process
        || (!terms.is_empty() && terms.iter().all(windows_only))
}
