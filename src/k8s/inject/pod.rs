//! The additions to a pod.

use serde_json::{Value, json};
use tokio::time::Duration;

use super::{
    CONTAINER, InjectRefusal, limits,
    names::{Prefix, text},
    object::{BASE_URL, CONTAINERS, DEFAULT_CONTAINER, annotate, items, list},
    other_sidecars::{has_mesh, is_stranger},
    settings::{Mode, SidecarKind, SidecarSettings},
    sidecar::{self, PodContext},
    status::InjectionStatus,
    transparent,
    trust::{self, HttpsStatus},
};

/// The default of how long a pod may take to end.
const USUAL_GRACE: u64 = 30;

/// Adds the sidecar to the pod.
pub(super) fn inject(
    pod: &Value,
    prefix: &Prefix,
    settings: &SidecarSettings,
    warnings: &mut Vec<String>,
) -> Result<Value, InjectRefusal> {
    let context = context(pod);
    if settings.sidecar == SidecarKind::Classic {
        let has_init = !items(pod, "/spec/initContainers").is_empty();
        warn(settings, context, has_init, prefix, warnings);
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
        volumes: names.map(str::to_owned).collect(),
        warnings: limits::unfit(settings, prefix),
        ..InjectionStatus::default()
    };
    status.https = settings.https.as_ref().map(|https| HttpsStatus {
        trust_env: https.trust_env.clone(),
        ..HttpsStatus::default()
    });
    tell(&mut pod, &mut status);
    warnings.extend(status.warnings.iter().cloned());
    add_volumes(&mut pod, volumes)?;
    let container = sidecar::container(settings, context);
    if settings.sidecar == SidecarKind::Classic {
        status.default_container = choose_default(&mut pod);
        list(&mut pod["spec"], "containers").insert(0, container);
    } else {
        list(&mut pod["spec"], "initContainers").insert(0, container);
    }
    if let Some(secret) = &settings.image_pull_secret
        && add_pull_secret(&mut pod, secret)
    {
        status.pull_secret = Some(secret.clone());
    }
    if settings.mode == Mode::Transparent {
        let mut new = transparent::add_host_aliases(&mut pod, transparent::hosts(settings));
        status.host_alias = new.iter().any(|host| host == transparent::HOST);
        new.retain(|host| host != transparent::HOST);
        if let Some(https) = &mut status.https {
            https.hosts = new;
        }
        status.sysctl = transparent::add_sysctl(&mut pod);
    }
    status.write(&mut pod, prefix);
    Ok(pod)
}

fn add_volumes(pod: &mut Value, volumes: Vec<Value>) -> Result<(), InjectRefusal> {
    let all = list(&mut pod["spec"], "volumes");
    for volume in volumes {
        if all.iter().any(|other| other["name"] == volume["name"]) {
            let name = volume["name"].as_str().unwrap_or_default();
            return Err(InjectRefusal::new(format!(
                "the pod has a volume of its own named {name}"
            )));
        }
        all.push(volume);
    }
    Ok(())
}

/// Adds a Secret for pulling images. Returns whether it is new.
fn add_pull_secret(pod: &mut Value, secret: &str) -> bool {
    let secret = json!({ "name": secret });
    let all = list(&mut pod["spec"], "imagePullSecrets");
    let is_new = !all.contains(&secret);
    if is_new {
        all.push(secret);
    }
    is_new
}

/// Adds the sidecar's address to containers that were added to an injected pod later. Returns the new pod with new
/// warnings.
pub(super) fn complete(
    pod: &Value,
    prefix: &Prefix,
    mut status: InjectionStatus,
) -> Option<(Value, Vec<String>)> {
    let before = status.clone();
    let mut pod = pod.clone();
    tell(&mut pod, &mut status);
    if status == before {
        return None;
    }
    status.write(&mut pod, prefix);
    Some((pod, status.warnings.split_off(before.warnings.len())))
}

/// Adds the sidecar's address, and with https the trust in it, to the app's containers, and records which got it. A
/// classic sidecar does not run yet while initContainers run.
fn tell(pod: &mut Value, status: &mut InjectionStatus) {
    if let Some(https) = &mut status.https {
        let warnings = trust::add(pod, status.sidecar == "native", https);
        status.warnings.extend(warnings);
    }
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
            // It comes first, so that the app's own variables can refer to it.
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

fn context(pod: &Value) -> PodContext {
    let policy = pod["spec"]["restartPolicy"].as_str();
    PodContext {
        grace: grace(pod),
        ends: matches!(policy, Some("Never" | "OnFailure")),
        has_mesh: has_mesh(pod),
    }
}

/// Warnings about what a classic sidecar cannot do.
fn warn(
    settings: &SidecarSettings,
    context: PodContext,
    has_init: bool,
    prefix: &Prefix,
    warnings: &mut Vec<String>,
) {
    if context.ends {
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
    if context.grace > served && settings.shutdown_delay.is_none() {
        warnings.push(format!(
            "the classic sidecar serves for {:?} after the pod is told to stop, less than \
             terminationGracePeriodSeconds; see {}",
            sidecar::LONGEST_DELAY,
            prefix.key("shutdown-delay")
        ));
    }
}

/// Makes the app's container the default of `kubectl logs` and `kubectl exec`. Returns whether that took an
/// annotation.
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
