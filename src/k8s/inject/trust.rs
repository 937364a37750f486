//! The app's containers trust the sidecar's CA: the folder that they mount, and the variables that name its files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    CONTAINER,
    https::TRUST_VOLUME,
    object::{self, CONTAINERS, items, list},
    other_sidecars::is_stranger,
    trust_env::{JAVA, TRUST_FOLDER, TRUST_STORE, TrustEnv, java_option, variables},
};

/// The part of the record that is about transparent https.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpsStatus {
    /// The hosts that were pointed to the pod, beside the one of transparent mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hosts: Vec<String>,
    /// The clients whose roots are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) trust_env: Vec<TrustEnv>,
    /// The containers that got the folder, and the variables that were added to each.
    pub(super) containers: BTreeMap<String, Vec<String>>,
    /// The containers of these whose own options of Java were extended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) appended: Vec<String>,
}

/// What was done to the variables of a container.
#[derive(Default)]
struct GivenVariables {
    /// These were added.
    added: Vec<String>,
    /// Whether its options of Java were extended.
    appended: bool,
    /// It sets these itself.
    own: Vec<&'static str>,
    /// These may come from a ConfigMap or a Secret.
    unclear: Vec<&'static str>,
}

/// Gives the folder and the variables to all containers of the app that have not got them yet. Returns warnings.
///
/// The folder is empty until the sidecar has started, and a variable that names a missing file breaks each https of
/// many clients. So an initContainer that runs earlier gets nothing.
pub(super) fn add(pod: &mut Value, is_native: bool, status: &mut HttpsStatus) -> Vec<String> {
    let mut warnings = Vec::new();
    for kind in CONTAINERS {
        let path = format!("/spec/{kind}");
        let all = items(pod, &path);
        let early = match (kind, is_native) {
            ("initContainers", false) => all.len(),
            ("initContainers", true) => all
                .iter()
                .position(|one| one["name"] == CONTAINER)
                .map_or(0, |at| at + 1),
            _ => 0,
        };
        let all = pod.pointer_mut(&path).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten().skip(early) {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            if name == CONTAINER || is_stranger(&name) || status.containers.contains_key(&name) {
                continue;
            }
            let mount =
                json!({ "name": TRUST_VOLUME, "mountPath": TRUST_FOLDER, "readOnly": true });
            if !items(container, "/volumeMounts").contains(&mount) {
                list(container, "volumeMounts").push(mount);
            }
            let given = give(container, &status.trust_env);
            warnings.extend(given.warnings(&name));
            if given.appended {
                status.appended.push(name.clone());
            }
            status.containers.insert(name, given.added);
        }
    }
    warnings
}

/// Removes what was added to a container.
pub(super) fn remove(container: &mut Value, status: &HttpsStatus) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let Some(added) = status.containers.get(&name) else {
        return;
    };
    list(container, "volumeMounts").retain(|mount| mount["name"] != TRUST_VOLUME);
    object::prune(container, "volumeMounts");
    let values = variables(&status.trust_env);
    let ours = |variable: &Value| {
        let found = values.iter().find(|(name, _)| variable["name"] == *name);
        found.is_some_and(|(name, value)| {
            added.iter().any(|added| added == name) && variable["value"] == **value
        })
    };
    list(container, "env").retain(|variable| !ours(variable));
    if status.appended.contains(&name) {
        shorten(container);
    }
    object::prune(container, "env");
}

/// Adds the variables to a container, in front of its own, which can then refer to them. Whatever it sets itself
/// stays.
fn give(container: &mut Value, chosen: &[TrustEnv]) -> GivenVariables {
    let mut given = GivenVariables::default();
    let mut front = Vec::new();
    for (name, value) in variables(chosen) {
        let own = items(container, "/env").iter().rev();
        let mut own = own.filter(|own| own["name"] == name);
        if let Some(own) = own.next() {
            let trusts = own["value"]
                .as_str()
                .unwrap_or_default()
                .contains(TRUST_FOLDER);
            if name == JAVA && lengthen(container) {
                given.appended = true;
            } else if !trusts {
                given.own.push(name);
            }
        } else if may_come_from_elsewhere(container, name) {
            given.unclear.push(name);
        } else {
            front.push(json!({ "name": name, "value": value }));
            given.added.push(name.to_owned());
        }
    }
    if !front.is_empty() {
        list(container, "env").splice(0..0, front);
    }
    given
}

/// Whether one of the container's `envFrom` may set the variable.
fn may_come_from_elsewhere(container: &Value, name: &str) -> bool {
    items(container, "/envFrom").iter().any(|source| {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        name.starts_with(prefix)
    })
}

/// The container's own options of Java: the last of them counts.
fn java_options(container: &mut Value) -> Option<&mut Value> {
    let all = list(container, "env").iter_mut();
    all.rev().find(|variable| variable["name"] == JAVA)
}

/// Appends our option to those that the container has. Returns whether that was possible: they may be unknown here, or
/// name roots already.
fn lengthen(container: &mut Value) -> bool {
    let Some(variable) = java_options(container) else {
        return false;
    };
    if !variable["valueFrom"].is_null() {
        return false;
    }
    let longer = match &variable["value"] {
        Value::Null => java_option(),
        // The password or the type of another store does not fit ours.
        Value::String(own) if !own.contains(TRUST_STORE) => format!("{own} {}", java_option()),
        _ => return false,
    };
    variable["value"] = json!(longer);
    true
}

/// Removes our option again.
fn shorten(container: &mut Value) {
    let Some(variable) = java_options(container) else {
        return;
    };
    let option = java_option();
    let value = variable["value"].as_str().unwrap_or_default();
    if value == option {
        if let Some(fields) = variable.as_object_mut() {
            fields.shift_remove("value");
        }
    } else if let Some(own) = value.strip_suffix(&format!(" {option}")) {
        variable["value"] = json!(own);
    }
}

impl GivenVariables {
    /// Sentences about the variables that the container did not get.
    fn warnings(&self, container: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.own.is_empty() {
            warnings.push(format!(
                "the container {container} sets {} itself, which stays as it is: its clients have to trust what is in \
                 {TRUST_FOLDER}, too",
                self.own.join(", ")
            ));
        }
        if !self.unclear.is_empty() {
            warnings.push(format!(
                "the container {container} has envFrom, which may set {}: they are not added; where its clients need \
                 them, set them in its env",
                self.unclear.join(", ")
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::k8s::inject::object::containers;

    const NAMES: [&str; 8] = [
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_DIR",
        "PHP_INI_SCAN_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "JAVA_TOOL_OPTIONS",
        "WGETRC",
        "OTHER",
    ];

    fn variable() -> impl Strategy<Value = Value> {
        let value = prop_oneof![
            Just(json!({})),
            Just(json!({ "value": "" })),
            Just(json!({ "value": "-Xmx1g" })),
            Just(json!({ "value": java_option() })),
            Just(json!({ "value": format!(" {}", java_option()) })),
            Just(json!({ "value": format!("{TRUST_FOLDER}/ca.crt") })),
            Just(json!({ "value": 7 })),
            Just(json!({ "valueFrom": { "configMapKeyRef": { "name": "a", "key": "b" } } })),
        ];
        (prop::sample::select(&NAMES), value).prop_map(|(name, value)| {
            let mut variable = json!({ "name": name });
            if let (Some(fields), Some(more)) = (variable.as_object_mut(), value.as_object()) {
                fields.extend(more.clone());
            }
            variable
        })
    }

    fn container(name: &'static str) -> impl Strategy<Value = Value> {
        let env = prop::option::of(prop::collection::vec(variable(), 1..5));
        let mounts = prop::option::of(Just(json!([{ "name": "tmp", "mountPath": "/run" }])));
        let sources = [
            json!([{ "secretRef": { "name": "a" } }]),
            json!([{ "prefix": "NODE_", "secretRef": {} }]),
        ];
        let from = prop::option::of(prop::sample::select(sources.to_vec()));
        (env, mounts, from).prop_map(move |(env, mounts, from)| {
            let mut container = json!({ "name": name });
            let parts = [
                ("env", env.map(Value::Array)),
                ("volumeMounts", mounts),
                ("envFrom", from),
            ];
            for (name, part) in parts {
                if let Some(part) = part {
                    container[name] = part;
                }
            }
            container
        })
    }

    proptest! {
        #[test]
        fn what_is_added_can_be_removed_and_no_variable_of_the_container_changes(
            init in container("init"),
            app in container("app"),
            chosen in prop::sample::subsequence(
                vec![TrustEnv::Requests, TrustEnv::Java, TrustEnv::Wget, TrustEnv::Perl], 0..=4),
        ) {
            let before = json!({ "spec": { "initContainers": [init], "containers": [app] } });
            let mut status = HttpsStatus { trust_env: chosen, ..HttpsStatus::default() };
            let mut pod = before.clone();
            add(&mut pod, true, &mut status);
            for (old, new) in containers(&before).zip(containers(&pod)) {
                let own = items(old, "/env");
                let kept = &items(new, "/env")[items(new, "/env").len() - own.len()..];
                for (old, new) in own.iter().zip(kept) {
                    prop_assert!(old == new || old["name"] == JAVA, "{old} became {new}");
                }
            }
            // A second time nothing changes.
            let once = pod.clone();
            prop_assert!(add(&mut pod, true, &mut status).is_empty());
            prop_assert_eq!(&once, &pod);
            for kind in CONTAINERS {
                for container in list(&mut pod["spec"], kind) {
                    remove(container, &status);
                }
            }
            prop_assert_eq!(before, pod);
        }
    }

    #[test]
    fn what_runs_before_the_sidecar_gets_nothing() {
        let pod = json!({ "spec": {
            "initContainers": [{ "name": "early" }, { "name": CONTAINER }, { "name": "late" }, { "name": "istio-proxy" }],
            "containers": [{ "name": "app" }],
        } });
        let who = |is_native| {
            let mut status = HttpsStatus::default();
            add(&mut pod.clone(), is_native, &mut status);
            status.containers.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(who(true), ["app", "late"]);
        assert_eq!(who(false), ["app"]);
    }

    #[test]
    fn options_of_java_are_extended_unless_they_are_unknown_or_name_roots() {
        let given = |own: Value| {
            let mut container = json!({ "name": "app", "env": [own] });
            let given = give(&mut container, &[TrustEnv::Java]);
            let variable = java_options(&mut container).unwrap().take();
            (
                given.appended,
                given.own.contains(&JAVA),
                variable["value"].as_str().map(str::to_owned),
            )
        };
        let extended = format!("-Xmx1g {}", java_option());
        let name = JAVA;
        assert_eq!(
            given(json!({ "name": name, "value": "-Xmx1g" })),
            (true, false, Some(extended))
        );
        for own in [
            "-Djavax.net.ssl.trustStore=/my.jks",
            "-Xmx1g -Djavax.net.ssl.trustStorePassword=x",
            "-Djavax.net.ssl.trustStoreType=BCFKS",
        ] {
            assert_eq!(
                given(json!({ "name": name, "value": own })),
                (false, true, Some(own.to_owned()))
            );
        }
        let elsewhere = json!({ "name": name, "valueFrom": { "secretKeyRef": {} } });
        assert_eq!(given(elsewhere), (false, true, None));
    }
}
