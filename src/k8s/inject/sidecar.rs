//! The sidecar's container, and the volumes that it mounts.

use serde_json::{Map, Value, json};
use tokio::time::Duration;

use super::{
    CONTAINER,
    https::HttpsSettings,
    settings::{AccountSecret, Mode, Probes, Resources, SidecarKind, SidecarSettings},
};

/// The volume that holds the AppSecret.
pub(super) const SECRET_VOLUME: &str = "wechat-sidecar-secret";
/// The volume that holds the configuration file.
pub(super) const CONFIG_VOLUME: &str = "wechat-sidecar-config";

const SECRETS: &str = "/run/secrets";
const CONFIGURATION: &str = "/etc/wechat-sidecar";
const CONFIGURATION_FILE: &str = "wechat-sidecar.toml";
const BINARY: &str = "/usr/local/bin/wechat-sidecar";

/// Readable by everybody in the sidecar's container, where there is one user only: 0444.
const READABLE: u32 = 292;

/// The properties of the pod that matter to the sidecar.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodContext {
    /// How long the pod may take to end.
    pub(super) grace: Duration,
    /// Whether the pod ends by itself, as that of a Job does.
    pub(super) ends: bool,
    /// Whether a service mesh is between the kubelet and its containers.
    pub(super) has_mesh: bool,
}

/// The container.
pub(super) fn container(settings: &SidecarSettings, context: PodContext) -> Value {
    let classic = settings.sidecar == SidecarKind::Classic;
    let mut container = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            container.insert(name.to_owned(), value);
        }
    };
    put("name", json!(CONTAINER));
    put("image", json!(settings.image));
    put("imagePullPolicy", json!(settings.image_pull_policy));
    if !classic {
        put("restartPolicy", json!("Always"));
    }
    put("env", environment(settings, context));
    let metrics = json!({
        "name": "wechat-metrics",
        "containerPort": settings.admin.port(),
        "protocol": "TCP",
    });
    put("ports", json!([metrics]));
    if classic {
        // The kubelet starts the next container when this command has ended.
        let wait = json!([BINARY, "wait", "--started", "--timeout", "60s"]);
        put(
            "lifecycle",
            json!({ "postStart": { "exec": { "command": wait } } }),
        );
    }
    let prober = Prober::of(settings, context);
    put("startupProbe", prober.startup());
    put("livenessProbe", prober.liveness());
    if settings.readiness {
        put("readinessProbe", prober.readiness());
    }
    put("resources", resources(settings));
    put("securityContext", security_context(settings.run_as_user));
    put("terminationMessagePolicy", json!("FallbackToLogsOnError"));
    put("volumeMounts", mounts(settings));
    Value::Object(container)
}

/// The volumes.
pub(super) fn volumes(settings: &SidecarSettings) -> Vec<Value> {
    let key = &settings.secret_key;
    let mut secret = json!({ "secretName": settings.secret, "defaultMode": READABLE });
    // The file of accounts may name any of its keys.
    if settings.account != AccountSecret::ConfigMap {
        secret["items"] = json!([{ "key": key, "path": key }]);
    }
    let mut volumes = vec![json!({ "name": SECRET_VOLUME, "secret": secret })];
    // The whole ConfigMap, because the file may refer to others, such as a root certificate.
    if let Some(name) = &settings.config_map {
        volumes.push(json!({ "name": CONFIG_VOLUME, "configMap": { "name": name } }));
    }
    volumes.extend(settings.https.iter().flat_map(HttpsSettings::volumes));
    volumes
}

/// Each volume is mounted as a directory. A file that is mounted by `subPath` would not change with its Secret.
fn mounts(settings: &SidecarSettings) -> Value {
    let mount =
        |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
    let mut mounts = vec![mount(SECRET_VOLUME, &secret_folder(settings))];
    if settings.config_map.is_some() {
        mounts.push(mount(CONFIG_VOLUME, CONFIGURATION));
    }
    mounts.extend(settings.https.iter().flat_map(HttpsSettings::mounts));
    Value::Array(mounts)
}

/// Where the Secret is mounted. The path names it, so that an error about the file says which Secret to correct.
fn secret_folder(settings: &SidecarSettings) -> String {
    format!("{SECRETS}/{}", settings.secret)
}

fn environment(settings: &SidecarSettings, context: PodContext) -> Value {
    let variable = |name: &str, value: String| json!({ "name": name, "value": value });
    let appid = match &settings.account {
        AccountSecret::Appid(appid) => Some(variable("WECHAT_APPID", appid.clone())),
        AccountSecret::Key(key) => Some(json!({
            "name": "WECHAT_APPID",
            "valueFrom": { "secretKeyRef": { "name": settings.secret, "key": key } },
        })),
        AccountSecret::ConfigMap => None,
    };
    let file = format!("{}/{}", secret_folder(settings), settings.secret_key);
    let secret = appid
        .is_some()
        .then(|| variable("WECHAT_SECRET_FILE", file));
    let listens: Vec<String> = settings.listens().iter().map(ToString::to_string).collect();
    let mut environment: Vec<Value> = appid.into_iter().chain(secret).collect();
    environment.extend([
        variable("WECHAT_SIDECAR_ADMIN", settings.admin.to_string()),
        variable("WECHAT_SIDECAR_LISTEN", listens.join(",")),
    ]);
    let https = settings.https.iter().flat_map(HttpsSettings::environment);
    environment.extend(https.map(|(name, value)| variable(name, value)));
    let mut more = |name: &str, value: Option<String>| {
        environment.extend(value.map(|value| variable(name, value)));
    };
    let transparent = settings.mode == Mode::Transparent;
    more(
        "WECHAT_SIDECAR_SKIP_HOSTS_FILE",
        transparent.then(|| "true".to_owned()),
    );
    let file = settings.config_map.as_ref();
    more(
        "WECHAT_SIDECAR_CONFIG",
        file.map(|_| format!("{CONFIGURATION}/{CONFIGURATION_FILE}")),
    );
    more("WECHAT_SIDECAR_LOG_LEVEL", settings.log_level.clone());
    let classic = settings.sidecar == SidecarKind::Classic;
    let (delay, grace) = shutdown_times(context.grace);
    let delay = Some(settings.shutdown_delay.unwrap_or(delay));
    let delay = delay.filter(|_| classic);
    more("WECHAT_SIDECAR_SHUTDOWN_DELAY", delay.map(seconds));
    more(
        "WECHAT_SIDECAR_SHUTDOWN_GRACE",
        classic.then(|| seconds(grace)),
    );
    // Nothing else ends a classic sidecar when the app has ended.
    let asked = classic && context.ends;
    more(
        "WECHAT_SIDECAR_ENABLE_SHUTDOWN",
        asked.then(|| "true".to_owned()),
    );
    Value::Array(environment)
}

/// The longest that a classic sidecar runs on alone. It keeps the resources of the pod reserved.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// How long the last calls may take.
pub(super) const LAST_CALLS: Duration = Duration::from_secs(4);

/// How long a classic sidecar, which is told to stop together with the app, goes on serving it, and how long the last
/// calls may then take. Both end before the pod is killed.
fn shutdown_times(grace: Duration) -> (Duration, Duration) {
    let delay = grace.saturating_sub(Duration::from_secs(5));
    let last = if delay.is_zero() {
        Duration::from_secs(1)
    } else {
        LAST_CALLS
    };
    (delay.min(LONGEST_DELAY), last)
}

fn seconds(duration: Duration) -> String {
    humantime::format_duration(duration)
        .to_string()
        .replace(' ', "")
}

/// How the kubelet probes the sidecar.
#[derive(Clone, Copy)]
enum Prober {
    /// Over the network, at this port.
    Http(u16),
    /// By a command in the container, which no mesh can block.
    Exec,
}

/// The period of a probe, its time limit, and how many may fail.
struct Pace {
    period_seconds: u32,
    timeout_seconds: u32,
    failures: u32,
}

impl Prober {
    fn of(settings: &SidecarSettings, context: PodContext) -> Self {
        match settings.probes {
            Probes::Auto if context.has_mesh => Self::Exec,
            Probes::Exec => Self::Exec,
            Probes::Auto | Probes::Http => Self::Http(settings.admin.port()),
        }
    }

    fn probe(self, path: &str, command: &[&str], pace: Pace) -> Value {
        let command = [&[BINARY], command].concat();
        let mut probe = match self {
            Self::Exec => json!({ "exec": { "command": command } }),
            Self::Http(port) => json!({ "httpGet": { "path": path, "port": port } }),
        };
        probe["periodSeconds"] = json!(pace.period_seconds);
        probe["timeoutSeconds"] = json!(pace.timeout_seconds);
        probe["failureThreshold"] = json!(pace.failures);
        probe
    }

    fn startup(self) -> Value {
        let pace = Pace {
            period_seconds: 1,
            timeout_seconds: 2,
            failures: 90,
        };
        self.probe("/startupz", &["wait", "--started", "--timeout", "1s"], pace)
    }

    fn liveness(self) -> Value {
        let pace = Pace {
            period_seconds: 10,
            timeout_seconds: 5,
            failures: 3,
        };
        self.probe("/livez", &["health"], pace)
    }

    fn readiness(self) -> Value {
        let pace = Pace {
            period_seconds: 5,
            timeout_seconds: 2,
            failures: 3,
        };
        self.probe("/readyz", &["wait", "--timeout", "1s"], pace)
    }
}

fn resources(settings: &SidecarSettings) -> Value {
    let mut resources = Map::new();
    for (name, Resources { cpu, memory }) in [
        ("requests", &settings.requests),
        ("limits", &settings.limits),
    ] {
        let both = [("cpu", cpu), ("memory", memory)];
        let wanted = both
            .into_iter()
            .filter_map(|(name, quantity)| Some((name.to_owned(), json!(quantity.as_ref()?.text))));
        let wanted: Map<String, Value> = wanted.collect();
        if !wanted.is_empty() {
            resources.insert(name.to_owned(), Value::Object(wanted));
        }
    }
    Value::Object(resources)
}

/// What the *restricted* Pod Security Standard requires, and a read-only root file system.
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
fn security_context(user: Option<u32>) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if let Some(user) = user {
        context["runAsUser"] = json!(user);
        context["runAsGroup"] = json!(user);
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classic_sidecar_has_ended_before_the_pod_is_killed() {
        for (grace, delay, last) in [
            (0, 0, 1),
            (1, 0, 1),
            (5, 0, 1),
            (6, 1, 4),
            (30, 25, 4),
            (65, 60, 4),
            (3600, 60, 4),
        ] {
            let (longest, finishing) = shutdown_times(Duration::from_secs(grace));
            assert_eq!(
                (longest.as_secs(), finishing.as_secs()),
                (delay, last),
                "{grace}"
            );
        }
        assert_eq!(seconds(Duration::from_secs(90)), "1m30s");
    }
}
