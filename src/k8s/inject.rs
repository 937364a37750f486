//! Adds a sidecar to a pod, in the same way in the cluster and offline.
//!
//! The additions are recorded in an annotation of the pod. So a second injection changes nothing, and
//! [`Injector::uninject`] removes exactly what was added.

mod https;
mod limits;
pub mod names;
mod object;
pub mod offline;
mod other_sidecars;
mod pod;
pub mod setting;
mod settings;
mod sidecar;
mod status;
pub mod stream;
mod transparent;
mod trust;
mod trust_env;
mod trust_place;
mod values;
mod workload;
pub(crate) mod yaml;

use serde_json::Value;

use names::{Prefix, text, word};
use setting::SettingId;
use settings::{Mode, SettingLayers, SidecarKind, SidecarSettings};
pub use settings::{PresetError, Presets};
use status::InjectionStatus;

/// The name of the sidecar's container.
pub const CONTAINER: &str = "wechat-sidecar";

/// The options of injection.
#[derive(Clone, Debug, Default)]
pub struct Injector {
    /// The prefix of labels and annotations.
    pub prefix: Prefix,
    /// The settings for pods that do not set their own.
    pub presets: Presets,
    /// The cluster's version, major and minor, if it is known.
    pub cluster: Option<(u32, u32)>,
}

/// A pod, or a pod template, with its namespace.
#[derive(Clone, Copy, Debug)]
pub struct InjectedPod<'a> {
    /// The object with `metadata` and `spec`.
    pub object: &'a Value,
    /// The Namespace object of its namespace; `Null` if it is not known.
    pub namespace: &'a Value,
}

/// The result for a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a sidecar now.
    Injected {
        /// The pod with all additions.
        pod: Value,
        /// A phrase that says what was done.
        summary: String,
        /// Sentences that the operator should read.
        warnings: Vec<String>,
    },
    /// The sidecar is gone.
    Uninjected(Value),
    /// Nothing is to be done. The phrase gives the reason.
    Unchanged(String),
    /// It cannot have a sidecar, although one may be expected. The phrase gives the reason.
    Skipped(String),
}

/// What a pod says about a sidecar, by a label or an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodLabel {
    /// It asks for one.
    Wants,
    /// It asks for none, by this: a label or an annotation.
    Declines(&'static str),
    /// It says nothing, so its namespace decides.
    Silent,
}

/// Why a pod is refused, as a sentence that names the annotation or the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InjectRefusal(String);

impl InjectRefusal {
    fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// The first version of Kubernetes that supports sidecars among the initContainers.
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>
const NATIVE_SINCE: (u32, u32) = (1, 29);

impl Injector {
    /// Adds a sidecar to `pod`, unless it has one, asks for none, or cannot have one.
    pub fn inject(&self, pod: InjectedPod<'_>) -> Result<Outcome, InjectRefusal> {
        if let Some(reason) = self.unwanted(pod)? {
            return Ok(Outcome::Unchanged(reason));
        }
        if let Some(reason) = impossible(pod.object) {
            return Ok(Outcome::Skipped(reason));
        }
        object::check_shape(pod.object)?;
        let status = InjectionStatus::of(pod.object, &self.prefix)?;
        match (status, object::has_container(pod.object, CONTAINER)) {
            (Some(status), true) => return self.complete(pod, status),
            (None, true) => {
                let reason = format!("it has a container of its own named {CONTAINER}");
                return Ok(Outcome::Unchanged(reason));
            }
            // The annotation was copied from an injected pod, but there is no sidecar.
            (_, false) => {}
        }
        let InjectedPod { object, namespace } = pod;
        let layers = SettingLayers::gather(&self.prefix, &self.presets, namespace, object)?;
        let settings = layers.settings()?;
        self.check(object, &layers, &settings)?;
        let mut warnings = self.idle(&layers, &settings);
        if settings.sidecar == SidecarKind::Native && layers.is_annotated(SettingId::ShutdownDelay)
        {
            warnings.push(format!(
                "{} is for classic sidecars: a native one ends after the app",
                self.prefix.key("shutdown-delay")
            ));
        }
        let injected = pod::inject(object, &self.prefix, &settings, &mut warnings)?;
        let with_https = settings.https.map_or("", |_| " with https");
        Ok(Outcome::Injected {
            pod: injected,
            summary: format!("{}, {}{with_https}", settings.sidecar, settings.mode),
            warnings,
        })
    }

    /// Removes the sidecar from `pod`, with all other additions.
    pub fn uninject(&self, pod: InjectedPod<'_>) -> Result<Outcome, InjectRefusal> {
        // What was never injected may have any shape, as where injection is skipped.
        let Some(status) = InjectionStatus::of(pod.object, &self.prefix)? else {
            return Ok(Outcome::Unchanged("it is not injected".to_owned()));
        };
        object::check_shape(pod.object)?;
        Ok(Outcome::Uninjected(status.undo(pod.object, &self.prefix)))
    }

    /// Another webhook may have added containers after the sidecar was added.
    fn complete(
        &self,
        pod: InjectedPod<'_>,
        status: InjectionStatus,
    ) -> Result<Outcome, InjectRefusal> {
        if status.host_alias {
            transparent::check_ports(pod.object, &self.prefix, status.https.is_some())?;
        }
        if status.https.is_some() {
            trust_place::check(pod.object)?;
        }
        Ok(match pod::complete(pod.object, &self.prefix, status) {
            None => Outcome::Unchanged(
                "it is injected already; for other settings, uninject it first".to_owned(),
            ),
            Some((pod, warnings)) => Outcome::Injected {
                pod,
                summary: "the sidecar was there, its address in new containers was not".to_owned(),
                warnings,
            },
        })
    }

    /// The same for a pod in a namespace whose label is neither `enabled` nor `disabled`, although its object may not be
    /// known. The pod is refused, unless it decides for itself.
    pub fn inject_in_unclear_namespace(
        &self,
        pod: InjectedPod<'_>,
    ) -> Result<Outcome, InjectRefusal> {
        if self.pod_label(pod.object)? != PodLabel::Silent {
            return self.inject(pod);
        }
        if let Some(reason) = impossible(pod.object) {
            return Ok(Outcome::Skipped(reason));
        }
        // What is known of the namespace may be some seconds old, and right no more.
        let key = self.prefix.key("injection");
        let said = text(pod.namespace, "labels", &key);
        let said = said.filter(|said| !matches!(*said, "enabled" | "disabled"));
        let said = said.map_or(String::new(), |said| format!(": {said:?}"));
        Err(InjectRefusal::new(format!(
            "the namespace's label {key}{said} is neither enabled nor disabled: correct or remove it"
        )))
    }

    /// Whether the pod, or else its namespace, asks for no sidecar.
    fn unwanted(&self, pod: InjectedPod<'_>) -> Result<Option<String>, InjectRefusal> {
        match self.pod_label(pod.object)? {
            PodLabel::Wants => return Ok(None),
            PodLabel::Declines(what) => {
                let key = self.prefix.key("inject");
                return Ok(Some(format!("its {what} {key} is false")));
            }
            PodLabel::Silent => {}
        }
        let key = self.prefix.key("injection");
        match word(pod.namespace, "labels", &key, "the namespace's")? {
            None | Some("enabled") => Ok(None),
            Some("disabled") => Ok(Some(format!("its namespace's label {key} is disabled"))),
            Some(other) => Err(InjectRefusal::new(format!(
                "the namespace's label {key}: {other:?} is neither enabled nor disabled"
            ))),
        }
    }

    /// What the pod itself says about a sidecar.
    fn pod_label(&self, pod: &Value) -> Result<PodLabel, InjectRefusal> {
        let key = self.prefix.key("inject");
        let mut said = PodLabel::Silent;
        // The cluster selects pods by the label. An annotation can also ask for no sidecar.
        for kind in ["labels", "annotations"] {
            let what = kind.trim_end_matches('s');
            match word(pod, kind, &key, "the pod's")? {
                None => {}
                Some("true") => said = PodLabel::Wants,
                Some("false") => return Ok(PodLabel::Declines(what)),
                Some(other) => {
                    return Err(InjectRefusal::new(format!(
                        "the pod's {what} {key}: {other:?} is neither true nor false"
                    )));
                }
            }
        }
        Ok(said)
    }

    /// Warnings about settings of https that have no effect without it.
    fn idle(&self, layers: &SettingLayers, settings: &SidecarSettings) -> Vec<String> {
        let all = [
            SettingId::HttpsHosts,
            SettingId::TrustEnv,
            SettingId::TrustAlso,
            SettingId::TrustAlsoKey,
        ];
        let idle = all
            .into_iter()
            .filter(|id| settings.https.is_none() && layers.is_annotated(*id));
        let key = |id: SettingId| self.prefix.key(id.setting().name);
        idle.map(|id| {
            format!(
                "{} has no effect without {}",
                key(id),
                key(SettingId::Https)
            )
        })
        .collect()
    }

    /// Checks that depend on the cluster's version and on the rest of the pod.
    fn check(
        &self,
        pod: &Value,
        layers: &SettingLayers,
        settings: &SidecarSettings,
    ) -> Result<(), InjectRefusal> {
        if let Some((major, minor)) = self.cluster
            && settings.sidecar == SidecarKind::Native
            && (major, minor) < NATIVE_SINCE
        {
            let problem = format!(
                "needs Kubernetes 1.29, and this cluster is {major}.{minor}: the pod would never start; use classic"
            );
            return Err(layers.objection(SettingId::Sidecar, &problem));
        }
        let ports = [
            (SettingId::Listen, settings.listen),
            (SettingId::Admin, settings.admin),
        ];
        for (id, address) in ports {
            if let Some(container) = object::declares_port(pod, address.port()) {
                let problem = format!("has a port that the container {container} declares");
                return Err(layers.objection(id, &problem));
            }
        }
        let grace = pod::grace(pod);
        if let Some(delay) = settings.shutdown_delay
            && settings.sidecar == SidecarKind::Classic
            && delay + sidecar::LAST_CALLS >= grace
        {
            let problem = format!(
                "leaves no time for the last calls before the pod is killed, {grace:?} after it was \
                 told to stop (terminationGracePeriodSeconds)"
            );
            return Err(layers.objection(SettingId::ShutdownDelay, &problem));
        }
        if settings.mode == Mode::Transparent {
            transparent::check_ports(pod, &self.prefix, settings.https.is_some())?;
            transparent::check(pod, &self.prefix, &transparent::hosts(settings))?;
        }
        if settings.https.is_some() {
            trust_place::check(pod)?;
        }
        Ok(())
    }
}

/// The reason why no sidecar can be added to this pod, if there is one.
fn impossible(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    if spec["hostNetwork"] == true {
        let reason = "it is on the host's network, where everybody on the node could use its token";
        return Some(reason.to_owned());
    }
    let windows = other_sidecars::runs_on_windows(pod);
    windows.then(|| "it runs on Windows, and the sidecar on Linux only".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_injection_skips_is_left_alone_by_its_removal_too() {
        // A fuzzer's: it is on the host's network, and its containers are misspelt.
        let object = &json!({ "kind": "Pod", "spec": { "hostNetwork": true, "coftainers": [] } });
        let pod = InjectedPod {
            object,
            namespace: &Value::Null,
        };
        let injector = Injector::default();
        assert!(matches!(injector.inject(pod), Ok(Outcome::Skipped(_))));
        assert!(matches!(injector.uninject(pod), Ok(Outcome::Unchanged(_))));
    }
}
