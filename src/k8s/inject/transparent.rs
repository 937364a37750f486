//! Transparent mode: in the pod, WeChat's own name is the sidecar's address.

use serde_json::{Value, json};

use super::{
    Refusal,
    names::Prefix,
    object::{self, items, list},
};

/// Of plain HTTP, which is all that can be taken over.
pub(super) const PORT: u16 = 80;

const HOST: &str = "api.weixin.qq.com";
const ADDRESS: &str = "127.0.0.1";

/// Lets a process without capabilities listen on port 80. `NET_BIND_SERVICE` does nothing for a
/// container that does not run as root; this is one of the sysctls that Kubernetes counts as safe.
const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// Whether the port is free.
pub(super) fn check_ports(pod: &Value, prefix: &Prefix) -> Result<(), Refusal> {
    let Some(container) = object::declares_port(pod, PORT) else {
        return Ok(());
    };
    Err(Refusal::new(format!(
        "the annotation {}: transparent takes port {PORT} of the pod, which the container {container} declares; \
         use base-url, or let the container listen elsewhere",
        prefix.key("mode")
    )))
}

/// Whether the pod says nothing against it.
pub(super) fn check(pod: &Value, prefix: &Prefix) -> Result<(), Refusal> {
    let mode = prefix.key("mode");
    for alias in items(pod, "/spec/hostAliases") {
        if names_host(alias) && alias["ip"] != ADDRESS {
            return Err(Refusal::new(format!(
                "the annotation {mode}: transparent points {HOST} to {ADDRESS}, and spec.hostAliases to another address"
            )));
        }
    }
    for sysctl in items(pod, "/spec/securityContext/sysctls") {
        let start = sysctl["value"]
            .as_str()
            .and_then(|value| value.trim().parse().ok());
        if sysctl["name"] == SYSCTL && start.is_none_or(|start: u32| start > PORT.into()) {
            return Err(Refusal::new(format!(
                "the annotation {mode}: transparent needs port {PORT}, which the pod's sysctl {SYSCTL} forbids"
            )));
        }
    }
    Ok(())
}

fn names_host(alias: &Value) -> bool {
    let mut names = alias["hostnames"].as_array().into_iter().flatten();
    names.any(|name| name == HOST)
}

/// Points WeChat's name to this pod; whether that is new.
pub(super) fn add_host_alias(pod: &mut Value) -> bool {
    if items(pod, "/spec/hostAliases").iter().any(names_host) {
        return false;
    }
    let aliases = list(&mut pod["spec"], "hostAliases");
    // One entry an address, as the API wants it.
    match aliases.iter_mut().find(|alias| alias["ip"] == ADDRESS) {
        Some(alias) => list(alias, "hostnames").push(json!(HOST)),
        None => aliases.push(json!({ "ip": ADDRESS, "hostnames": [HOST] })),
    }
    true
}

/// Takes the name away again.
pub(super) fn remove_host_alias(pod: &mut Value) {
    for alias in list(&mut pod["spec"], "hostAliases") {
        list(alias, "hostnames").retain(|name| name != HOST);
    }
    list(&mut pod["spec"], "hostAliases").retain(|alias| alias["hostnames"] != json!([]));
    object::prune(&mut pod["spec"], "hostAliases");
}

/// Lets the sidecar listen on the port; whether that is new.
pub(super) fn add_sysctl(pod: &mut Value) -> bool {
    let known = items(pod, "/spec/securityContext/sysctls");
    if known.iter().any(|sysctl| sysctl["name"] == SYSCTL) {
        return false;
    }
    let context = object::object(&mut pod["spec"], "securityContext");
    list(context, "sysctls").push(json!({ "name": SYSCTL, "value": PORT.to_string() }));
    true
}

/// Takes that away again.
pub(super) fn remove_sysctl(pod: &mut Value) {
    let context = object::object(&mut pod["spec"], "securityContext");
    list(context, "sysctls").retain(|sysctl| sysctl["name"] != SYSCTL);
    object::prune(context, "sysctls");
    object::prune(&mut pod["spec"], "securityContext");
}
