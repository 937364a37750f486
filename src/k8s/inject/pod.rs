//! Additions to a pod, each at its place.

use serde_json::{Map, Value, json};
use tokio::time::Duration;

use super::{
    CONTAINER, Refusal,
    names::{Prefix, text},
    other_sidecars::{has_mesh, is_stranger},
    settings::{Mode, SidecarKind, SidecarSettings},
    sidecar::{self, PodContext},
    status::InjectionStatus,
    transparent,
};

/// Where containers stand in a pod's spec.
pub(super) const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// Tells an app where the sidecar is.
pub(super) const BASE_URL: &str = "WECHAT_API_BASE_URL";

/// Which container `kubectl logs` and `kubectl exec` mean.
pub(super) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// How long a pod may take to end unless it says so.
const USUAL_GRACE: u64 = 30;

/// Whether `pod` is what the rest takes it for: the API server has looked already, offline nobody has.
pub(super) fn check_shape(pod: &Value) -> Result<(), Refusal> {
    let wrong = |path: &str, what: &str| Err(Refusal::new(format!("{path} is no {what}")));
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
        return Err(Refusal::new("spec.containers is no list of containers"));
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
        for name in ["env", "ports"] {
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

/// The container that declares to listen on `port`, if one does.
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

/// The pod with a sidecar.
pub(super) fn inject(
    pod: &Value,
    prefix: &Prefix,
    settings: &SidecarSettings,
    warnings: &mut Vec<String>,
) -> Result<Value, Refusal> {
    let surroundings = surroundings(pod);
    if settings.sidecar == SidecarKind::Classic {
        let has_init = !items(pod, "/spec/initContainers").is_empty();
        warn(settings, surroundings, has_init, prefix, warnings);
    }
    if pod["spec"]["shareProcessNamespace"] == true {
        warnings.push(
            "with shareProcessNamespace the app's processes may read the sidecar's AppSecret"
                .to_owned(),
        );
    }
    let mut pod = pod.clone();
    let volumes = sidecar::volumes(settings);
    let names = volumes.iter().filter_map(|volume| volume["name"].as_str());
    let mut status = InjectionStatus {
        version: crate::VERSION.to_owned(),
        sidecar: settings.sidecar.to_string(),
        base_url: settings.base_url(),
        containers: Vec::new(),
        volumes: names.map(str::to_owned).collect(),
        pull_secret: None,
        host_alias: false,
        sysctl: false,
        default_container: false,
    };
    tell(&mut pod, &mut status);
    for volume in volumes {
        let all = list(&mut pod["spec"], "volumes");
        if all.iter().any(|other| other["name"] == volume["name"]) {
            let name = volume["name"].as_str().unwrap_or_default();
            return Err(Refusal::new(format!(
                "the pod has a volume of its own named {name}"
            )));
        }
        all.push(volume);
    }
    let container = sidecar::container(settings, surroundings);
    if settings.sidecar == SidecarKind::Classic {
        status.default_container = choose_default(&mut pod);
        list(&mut pod["spec"], "containers").insert(0, container);
    } else {
        list(&mut pod["spec"], "initContainers").insert(0, container);
    }
    if let Some(secret) = &settings.image_pull_secret {
        let secret = json!({ "name": secret });
        let all = list(&mut pod["spec"], "imagePullSecrets");
        if !all.contains(&secret) {
            all.push(secret);
            status.pull_secret = settings.image_pull_secret.clone();
        }
    }
    if settings.mode == Mode::Transparent {
        status.host_alias = transparent::add_host_alias(&mut pod);
        status.sysctl = transparent::add_sysctl(&mut pod);
    }
    status.write(&mut pod, prefix);
    Ok(pod)
}

/// An injected pod to which containers were added since, with the sidecar's address in them.
pub(super) fn complete(pod: &Value, prefix: &Prefix, mut status: InjectionStatus) -> Option<Value> {
    let known = status.containers.len();
    let mut pod = pod.clone();
    tell(&mut pod, &mut status);
    if status.containers.len() == known {
        return None;
    }
    status.write(&mut pod, prefix);
    Some(pod)
}

/// Tells the app's containers where the sidecar is, and notes which were told. A classic sidecar is
/// not there yet while initContainers run.
fn tell(pod: &mut Value, status: &mut InjectionStatus) {
    for kind in CONTAINERS {
        if (kind == "initContainers" && status.sidecar != "native") || pod["spec"][kind].is_null() {
            continue;
        }
        for container in list(&mut pod["spec"], kind) {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let has = items(container, "/env")
                .iter()
                .any(|variable| variable["name"] == BASE_URL);
            let known = name == CONTAINER || is_stranger(&name);
            if has || known || status.containers.contains(&name) {
                continue;
            }
            // First, so that the app's own variables can refer to it.
            let variable = json!({ "name": BASE_URL, "value": status.base_url });
            list(container, "env").insert(0, variable);
            status.containers.push(name);
        }
    }
}

/// How long the pod may take to end.
pub(super) fn grace(pod: &Value) -> Duration {
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
    Duration::from_secs(grace.unwrap_or(USUAL_GRACE))
}

fn surroundings(pod: &Value) -> PodContext {
    let policy = pod["spec"]["restartPolicy"].as_str();
    PodContext {
        grace: grace(pod),
        ends: matches!(policy, Some("Never" | "OnFailure")),
        has_mesh: has_mesh(pod),
    }
}

/// What a classic sidecar cannot do by itself.
fn warn(
    settings: &SidecarSettings,
    surroundings: PodContext,
    has_init: bool,
    prefix: &Prefix,
    warnings: &mut Vec<String>,
) {
    if surroundings.ends {
        warnings.push(format!(
            "a classic sidecar goes on when the app is done, and the pod with it: let the app end with \
             a POST to http://127.0.0.1:{}/quitquitquit",
            settings.admin.port()
        ));
    }
    if settings.mode == Mode::Transparent && has_init {
        warnings.push(
            "initContainers run before a classic sidecar, and find nobody at WeChat's name"
                .to_owned(),
        );
    }
    let served = sidecar::LONGEST_DELAY + Duration::from_secs(5);
    if surroundings.grace > served && settings.shutdown_delay.is_none() {
        warnings.push(format!(
            "the classic sidecar serves for {:?} after the pod is told to stop, less than \
             terminationGracePeriodSeconds; see {}",
            sidecar::LONGEST_DELAY,
            prefix.key("shutdown-delay")
        ));
    }
}

/// Keeps `kubectl logs` and `kubectl exec` at the app; whether that took an annotation.
fn choose_default(pod: &mut Value) -> bool {
    let name = pod["spec"]["containers"][0]["name"]
        .as_str()
        .map(str::to_owned);
    match name {
        Some(name) if text(pod, "annotations", DEFAULT_CONTAINER).is_none() => {
            annotate(pod, DEFAULT_CONTAINER, &name);
            true
        }
        _ => false,
    }
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

/// The map `name` in `parent`, made if it is not there.
pub(super) fn object<'a>(parent: &'a mut Value, name: &str) -> &'a mut Value {
    let place = &mut parent[name];
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    place
}

/// The list `name` in `parent`, made if it is not there.
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

/// The items of the list at `path`, none if it is not there.
pub(super) fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Removes `name` from `parent` if nothing is in it.
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
