//! Transparent mode: in the pod, WeChat's own host name resolves to the sidecar.

use serde_json::{Value, json};

use super::{
    InjectRefusal,
    names::Prefix,
    object::{self, items, list},
    settings::TRANSPARENT_PORT as PORT,
};

const HOST: &str = "api.weixin.qq.com";
const ADDRESS: &str = "127.0.0.1";

/// Allows a process without capabilities to listen on port 80. `NET_BIND_SERVICE` has no effect in a container that
/// does not run as root. Kubernetes counts this sysctl as safe.
const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// Whether the port is free.
pub(super) fn check_ports(pod: &Value, prefix: &Prefix) -> Result<(), InjectRefusal> {
    let Some(container) = object::declares_port(pod, PORT) else {
        return Ok(());
    };
    Err(InjectRefusal::new(format!(
        "the annotation {}: transparent takes port {PORT} of the pod, which the container {container} declares; \
         use base-url, or let the container listen elsewhere",
        prefix.key("mode")
    )))
}

/// Checks that the pod does not prevent it.
pub(super) fn check(pod: &Value, prefix: &Prefix) -> Result<(), InjectRefusal> {
    let mode = prefix.key("mode");
    for alias in items(pod, "/spec/hostAliases") {
        if names_host(alias) && alias["ip"] != ADDRESS {
            return Err(InjectRefusal::new(format!(
                "the annotation {mode}: transparent points {HOST} to {ADDRESS}, and spec.hostAliases to another address"
            )));
        }
    }
    for sysctl in items(pod, "/spec/securityContext/sysctls") {
        let start = sysctl["value"]
            .as_str()
            .and_then(|value| value.trim().parse().ok());
        if sysctl["name"] == SYSCTL && start.is_none_or(|start: u32| start > PORT.into()) {
            return Err(InjectRefusal::new(format!(
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

/// Points WeChat's host name to this pod. Returns whether that is new.
pub(super) fn add_host_alias(pod: &mut Value) -> bool {
    if items(pod, "/spec/hostAliases").iter().any(names_host) {
        return false;
    }
    let aliases = list(&mut pod["spec"], "hostAliases");
    // One entry for each address, as the API requires.
    match aliases.iter_mut().find(|alias| alias["ip"] == ADDRESS) {
        Some(alias) => list(alias, "hostnames").push(json!(HOST)),
        None => aliases.push(json!({ "ip": ADDRESS, "hostnames": [HOST] })),
    }
    true
}

/// Removes the host name again.
pub(super) fn remove_host_alias(pod: &mut Value) {
    for alias in list(&mut pod["spec"], "hostAliases") {
        list(alias, "hostnames").retain(|name| name != HOST);
    }
    list(&mut pod["spec"], "hostAliases").retain(|alias| alias["hostnames"] != json!([]));
    object::prune(&mut pod["spec"], "hostAliases");
}

/// Allows the sidecar to listen on the port. Returns whether that is new.
pub(super) fn add_sysctl(pod: &mut Value) -> bool {
    let known = items(pod, "/spec/securityContext/sysctls");
    if known.iter().any(|sysctl| sysctl["name"] == SYSCTL) {
        return false;
    }
    let context = object::object(&mut pod["spec"], "securityContext");
    list(context, "sysctls").push(json!({ "name": SYSCTL, "value": PORT.to_string() }));
    true
}

/// Removes the sysctl again.
pub(super) fn remove_sysctl(pod: &mut Value) {
    let context = object::object(&mut pod["spec"], "securityContext");
    list(context, "sysctls").retain(|sysctl| sysctl["name"] != SYSCTL);
    object::prune(context, "sysctls");
    object::prune(&mut pod["spec"], "securityContext");
}
