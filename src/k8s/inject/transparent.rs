//! Transparent mode: in the pod, WeChat's own host name resolves to the sidecar.

use serde_json::{Value, json};

use super::{
    InjectRefusal,
    https::HTTPS_PORT,
    names::Prefix,
    object::{self, items, list},
    settings::{SidecarSettings, TRANSPARENT_PORT as PORT},
};

/// The host that leads to the sidecar in transparent mode.
pub(super) const HOST: &str = "api.weixin.qq.com";
const ADDRESS: &str = "127.0.0.1";

/// Allows a process without capabilities to listen on port 80, and on all above it. `NET_BIND_SERVICE` has no effect in
/// a container that does not run as root. Kubernetes counts this sysctl as safe.
const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// All hosts that lead to the sidecar.
pub(super) fn hosts(settings: &SidecarSettings) -> Vec<String> {
    let https = settings.https.as_ref();
    https.map_or_else(|| vec![HOST.to_owned()], |https| https.hosts())
}

/// Whether the ports are free.
pub(super) fn check_ports(
    pod: &Value,
    prefix: &Prefix,
    with_https: bool,
) -> Result<(), InjectRefusal> {
    if let Some(container) = object::declares_port(pod, PORT) {
        return Err(InjectRefusal::new(format!(
            "the annotation {}: transparent takes port {PORT} of the pod, which the container {container} declares; \
             use base-url, or let the container listen elsewhere",
            prefix.key("mode")
        )));
    }
    match object::declares_port(pod, HTTPS_PORT).filter(|_| with_https) {
        None => Ok(()),
        Some(container) => Err(InjectRefusal::new(format!(
            "the annotation {}: \"true\" takes port {HTTPS_PORT} of the pod, which the container {container} declares; \
             drop it, or let the container listen elsewhere",
            prefix.key("https")
        ))),
    }
}

/// Checks that the pod does not prevent it.
pub(super) fn check(pod: &Value, prefix: &Prefix, hosts: &[String]) -> Result<(), InjectRefusal> {
    let mode = prefix.key("mode");
    for alias in items(pod, "/spec/hostAliases") {
        let named = hosts.iter().find(|host| names(alias, host));
        if let Some(host) = named.filter(|_| alias["ip"] != ADDRESS) {
            return Err(InjectRefusal::new(format!(
                "the annotation {mode}: transparent points {host} to {ADDRESS}, and spec.hostAliases to another address"
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

fn names(alias: &Value, host: &str) -> bool {
    let mut names = alias["hostnames"].as_array().into_iter().flatten();
    names.any(|name| name == host)
}

/// Points the hosts to this pod. Returns those that are new.
pub(super) fn add_host_aliases(pod: &mut Value, mut hosts: Vec<String>) -> Vec<String> {
    let known = items(pod, "/spec/hostAliases");
    hosts.retain(|host| !known.iter().any(|alias| names(alias, host)));
    if hosts.is_empty() {
        return hosts;
    }
    let aliases = list(&mut pod["spec"], "hostAliases");
    // One entry for each address, as the API requires.
    match aliases.iter_mut().find(|alias| alias["ip"] == ADDRESS) {
        Some(alias) => list(alias, "hostnames").extend(hosts.iter().map(|host| json!(host))),
        None => aliases.push(json!({ "ip": ADDRESS, "hostnames": hosts })),
    }
    hosts
}

/// Removes the hosts again.
pub(super) fn remove_host_aliases<'a>(pod: &mut Value, hosts: impl Iterator<Item = &'a str>) {
    let hosts: Vec<&str> = hosts.collect();
    if hosts.is_empty() {
        return;
    }
    for alias in list(&mut pod["spec"], "hostAliases") {
        list(alias, "hostnames").retain(|name| !hosts.iter().any(|host| name == host));
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
