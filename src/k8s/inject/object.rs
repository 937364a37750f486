//! A pod as JSON, and functions to read, create, change and remove parts of it.

use serde_json::{Map, Value, json};

use super::{CONTAINER, InjectRefusal};

/// The lists of containers in the spec of a pod.
pub(super) const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// The variable that tells an app the address of the sidecar.
pub(super) const BASE_URL: &str = "WECHAT_API_BASE_URL";

/// The annotation with the container that `kubectl logs` and `kubectl exec` use by default.
pub(super) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Checks that `pod` has the structure that all other functions expect. The API server has checked that already, but
/// offline it is not certain.
pub(super) fn check_shape(pod: &Value) -> Result<(), InjectRefusal> {
    let wrong = |path: &str, what: &str| Err(InjectRefusal::new(format!("{path} is no {what}")));
    let maps = [
        "/metadata",
        "/metadata/labels",
        "/metadata/annotations",
        "/spec/securityContext",
    ];
    for path in maps {
        if !pod
            .pointer(path)
            .is_none_or(|value| value.is_object() || value.is_null())
        {
            return wrong(&dotted(path), "map");
        }
    }
    if !pod.pointer("/spec").is_some_and(Value::is_object) {
        return wrong("spec", "map");
    }
    if items(pod, "/spec/containers").is_empty() {
        return Err(InjectRefusal::new(
            "spec.containers is no list of containers",
        ));
    }
    let lists = [
        "initContainers",
        "containers",
        "volumes",
        "hostAliases",
        "imagePullSecrets",
    ];
    let lists = lists.map(|name| format!("/spec/{name}"));
    for path in lists
        .iter()
        .map(String::as_str)
        .chain(["/spec/securityContext/sysctls"])
    {
        let is_list = |value: &Value| {
            value.is_null()
                || value
                    .as_array()
                    .is_some_and(|items| items.iter().all(Value::is_object))
        };
        if !pod.pointer(path).is_none_or(is_list) {
            return wrong(&dotted(path), "list of maps");
        }
    }
    for container in containers(pod) {
        for name in ["env", "envFrom", "ports", "volumeMounts"] {
            if !matches!(
                container.get(name),
                None | Some(Value::Null | Value::Array(_))
            ) {
                return wrong(&format!("{name} of a container"), "list");
            }
        }
    }
    Ok(())
}

fn dotted(path: &str) -> String {
    path.trim_start_matches('/').replace('/', ".")
}

/// All containers, the initContainers first.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let paths = CONTAINERS.map(|name| format!("/spec/{name}"));
    paths.into_iter().flat_map(move |path| items(pod, &path))
}

/// Whether one of the containers has this name.
pub(super) fn has_container(pod: &Value, name: &str) -> bool {
    containers(pod).any(|container| container["name"] == name)
}

/// The container that declares to listen on `port`, if there is one.
pub(super) fn declares_port(pod: &Value, port: u16) -> Option<&str> {
    let declares = |container: &&Value| {
        let mut ports = items(container, "/ports").iter();
        ports.any(|declared| {
            let protocol = declared["protocol"].as_str().unwrap_or("TCP");
            declared["containerPort"] == port && protocol == "TCP"
        })
    };
    let mut others = containers(pod).filter(|container| container["name"] != CONTAINER);
    others.find(declares)?["name"]
        .as_str()
        .or(Some("without a name"))
}

/// Sets an annotation.
pub(super) fn annotate(pod: &mut Value, key: &str, text: &str) {
    object(object(pod, "metadata"), "annotations")[key] = json!(text);
}

/// Removes an annotation.
pub(super) fn remove_annotation(pod: &mut Value, key: &str) {
    let metadata = object(pod, "metadata");
    if let Some(annotations) = object(metadata, "annotations").as_object_mut() {
        annotations.shift_remove(key);
    }
    prune(metadata, "annotations");
    prune(pod, "metadata");
}

/// The map `name` in `parent`, which is created if it is missing.
pub(super) fn object<'a>(parent: &'a mut Value, name: &str) -> &'a mut Value {
    let place = &mut parent[name];
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    place
}

/// The list `name` in `parent`, which is created if it is missing.
pub(super) fn list<'a>(parent: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    let place = &mut parent[name];
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    match place {
        Value::Array(items) => items,
        _ => unreachable!("it was made a list"),
    }
}

/// The items of the list at `path`; none if it is missing.
pub(super) fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Removes `name` from `parent` if it is empty.
pub(super) fn prune(parent: &mut Value, name: &str) {
    let empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        other => other.is_null(),
    };
    if let Some(fields) = parent.as_object_mut()
        && fields.get(name).is_some_and(empty)
    {
        fields.shift_remove(name);
    }
}
