//! Other sidecars in a pod: service meshes and other injectors, whose containers are not the app's.

use serde_json::Value;

use super::{
    names::text,
    object::{containers, items},
};

/// The names of containers that other injectors add to pods.
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

/// Labels and annotations that ask for a mesh, each with the value that does.
const WISHES: [(&str, &str); 3] = [
    ("sidecar.istio.io/inject", "true"),
    ("linkerd.io/inject", "enabled"),
    ("linkerd.io/inject", "ingress"),
];

/// Whether a container of this name belongs to another injector.
pub(super) fn is_stranger(name: &str) -> bool {
    STRANGERS.contains(&name)
}

/// Whether a mesh is in the pod, or was asked for. Then the kubelet's requests over the network go through its proxy,
/// which may not be there yet, or may block them.
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

/// Whether the pod runs on Windows. The sidecar is a Linux program.
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
