//! The settings of a pod, from its annotations, its namespace and the operator, checked.

mod https;

use std::{
    fmt::{self, Display},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use serde_json::Value;
use tokio::time::Duration;

use super::{
    InjectRefusal,
    https::HttpsSettings,
    names::{Prefix, object_name, texts},
    setting::{self, Setting, SettingId},
    values::{self, Quantity},
};
use crate::settings::{error::SettingError, layers::Layers, parse, raw::RawValue, suggest};

/// The kind of container that the sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SidecarKind {
    /// An initContainer that is always restarted, for Kubernetes 1.29 and newer.
    Native,
    /// A container among those of the app.
    Classic,
}

/// How the app finds the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// By the base URL in its environment.
    BaseUrl,
    /// By WeChat's own host name, which resolves to the sidecar in the pod.
    Transparent,
}

/// The port of the sidecar when it takes the place of WeChat.
pub(super) const TRANSPARENT_PORT: u16 = 80;

/// How the kubelet probes the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probes {
    /// By HTTP, unless there is a service mesh.
    Auto,
    /// By HTTP, from outside of the pod.
    Http,
    /// By a command in the container, which needs no network.
    Exec,
}

/// The source of the AppID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AccountSecret {
    /// This AppID.
    Appid(String),
    /// This key of the Secret.
    Key(String),
    /// The file of the ConfigMap, which has all accounts.
    ConfigMap,
}

/// All settings of one pod.
#[derive(Clone, Debug)]
pub(super) struct SidecarSettings {
    pub(super) secret: String,
    pub(super) secret_key: String,
    pub(super) account: AccountSecret,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) sidecar: SidecarKind,
    pub(super) mode: Mode,
    pub(super) https: Option<HttpsSettings>,
    pub(super) readiness: bool,
    pub(super) requests: Resources,
    pub(super) limits: Resources,
    pub(super) image: String,
    pub(super) image_pull_policy: Option<String>,
    pub(super) image_pull_secret: Option<String>,
    pub(super) run_as_user: Option<u32>,
    pub(super) probes: Probes,
    pub(super) config_map: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) shutdown_delay: Option<Duration>,
}

/// CPU and memory. Each is optional.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    pub(super) cpu: Option<Quantity>,
    pub(super) memory: Option<Quantity>,
}

/// The settings for pods that do not set their own, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Presets(Vec<(SettingId, String)>);

/// Why a `NAME=VALUE` text is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// It is not of the form NAME=VALUE.
    #[error("it takes NAME=VALUE; for example secret=wechat")]
    NoAssignment,
    /// There is no such setting. The phrase suggests one.
    #[error("{0}")]
    Unknown(String),
    /// The value cannot be parsed, or contradicts another one.
    #[error("{0}")]
    Refused(#[from] InjectRefusal),
}

impl Presets {
    /// Reads `NAME=VALUE` texts, and checks them.
    pub fn parse<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self, PresetError> {
        let mut presets = Vec::new();
        for text in given {
            let (name, value) = text.split_once('=').ok_or(PresetError::NoAssignment)?;
            let id = SettingId::named(name).ok_or_else(|| PresetError::Unknown(unknown(name)))?;
            presets.push((id, value.to_owned()));
        }
        let presets = Self(presets);
        let prefix = Prefix::default();
        SettingLayers::gather(&prefix, &presets, &Value::Null, &Value::Null)?.settings()?;
        Ok(presets)
    }
}

/// The layer of a value, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SettingLayer {
    Pod,
    Namespace,
    Operator,
    Default,
}

/// The place of a value.
#[derive(Clone, Debug)]
struct SettingPlace {
    layer: SettingLayer,
    /// The full name of the annotation, or for the operator the name of the setting.
    name: String,
}

type RawSetting = RawValue<Setting, SettingPlace>;
type PlacedError = SettingError<SettingPlace>;

/// The effective value of each setting. The pod's annotation beats its namespace's, which beats the operator's.
pub(super) struct SettingLayers(Layers<SettingId, Setting, SettingPlace>);

/// Annotations that are not settings: one records the additions, and one asks for a sidecar.
const OTHERS: [&str; 2] = ["status", "inject"];

impl SettingLayers {
    /// Gathers the layers. An unknown annotation under our prefix is an error.
    pub(super) fn gather(
        prefix: &Prefix,
        presets: &Presets,
        namespace: &Value,
        pod: &Value,
    ) -> Result<Self, InjectRefusal> {
        let default = |id: SettingId| {
            let Setting { name, preset, .. } = id.setting();
            (id, raw(id, preset, SettingLayer::Default, prefix.key(name)))
        };
        let mut layers = Layers::new(SettingId::all().map(default));
        layers.lay(presets.0.iter().map(|(id, text)| {
            let name = id.setting().name.to_owned();
            (*id, raw(*id, text, SettingLayer::Operator, name))
        }));
        for (object, layer) in [
            (namespace, SettingLayer::Namespace),
            (pod, SettingLayer::Pod),
        ] {
            layers.lay(annotated(object, layer, prefix)?);
        }
        Ok(Self(layers))
    }

    /// Parses all settings.
    pub(super) fn settings(&self) -> Result<SidecarSettings, InjectRefusal> {
        self.read().map_err(refused)
    }

    fn read(&self) -> Result<SidecarSettings, PlacedError> {
        let layers = &self.0;
        let sidecars = [
            ("native", SidecarKind::Native),
            ("classic", SidecarKind::Classic),
        ];
        let modes = [
            ("base-url", Mode::BaseUrl),
            ("transparent", Mode::Transparent),
        ];
        let probes = [
            ("auto", Probes::Auto),
            ("http", Probes::Http),
            ("exec", Probes::Exec),
        ];
        let settings = SidecarSettings {
            secret: layers.value(SettingId::Secret, object_name)?,
            secret_key: layers.value(SettingId::SecretKey, values::data_key)?,
            account: self.account()?,
            listen: layers.value(SettingId::Listen, values::listen)?,
            admin: layers.value(SettingId::Admin, values::admin)?,
            sidecar: layers.value(SettingId::Sidecar, parse::one_of(&sidecars))?,
            mode: layers.value(SettingId::Mode, parse::one_of(&modes))?,
            https: self.https()?,
            readiness: layers.value(SettingId::Readiness, parse::boolean)?,
            requests: self.resources(SettingId::CpuRequest, SettingId::MemoryRequest)?,
            limits: self.resources(SettingId::CpuLimit, SettingId::MemoryLimit)?,
            image: layers.value(SettingId::Image, values::image)?,
            image_pull_policy: layers.optional(SettingId::ImagePullPolicy, values::pull_policy)?,
            image_pull_secret: layers.optional(SettingId::ImagePullSecret, object_name)?,
            run_as_user: layers.optional(SettingId::RunAsUser, values::user)?,
            probes: layers.value(SettingId::Probes, parse::one_of(&probes))?,
            config_map: layers.optional(SettingId::ConfigMap, object_name)?,
            log_level: layers.optional(SettingId::LogLevel, values::log_level)?,
            shutdown_delay: layers.optional(SettingId::ShutdownDelay, parse::pause)?,
        };
        self.agree(&settings)?;
        self.agree_on_https(&settings)?;
        Ok(settings)
    }

    fn resources(&self, cpu: SettingId, memory: SettingId) -> Result<Resources, PlacedError> {
        let layers = &self.0;
        Ok(Resources {
            cpu: layers.optional(cpu, values::quantity)?,
            memory: layers.optional(memory, values::memory)?,
        })
    }

    /// Checks that concern more than one setting.
    fn agree(&self, settings: &SidecarSettings) -> Result<(), PlacedError> {
        if settings.listen.port() == settings.admin.port() {
            let layer = |id| self.0.get(id).place.layer;
            let id = if layer(SettingId::Admin) < layer(SettingId::Listen) {
                SettingId::Admin
            } else {
                SettingId::Listen
            };
            let problem = "has the port of the other one, listen or admin";
            return Err(self.0.get(id).objection(problem));
        }
        let SidecarSettings {
            requests, limits, ..
        } = settings;
        let pairs = [
            (SettingId::CpuRequest, &requests.cpu, &limits.cpu),
            (SettingId::MemoryRequest, &requests.memory, &limits.memory),
        ];
        for (id, request, limit) in pairs {
            if let (Some(request), Some(limit)) = (request, limit)
                && request.value > limit.value
            {
                let problem = format!("is more than the limit, {}", limit.text);
                return Err(self.0.get(id).objection(&problem));
            }
        }
        Ok(())
    }

    /// Whether the pod or its namespace sets `id`.
    pub(super) fn is_annotated(&self, id: SettingId) -> bool {
        let RawValue { place, .. } = self.0.get(id);
        let has_text = self.0.text(id).is_some_and(|(_, text)| !text.is_empty());
        has_text && matches!(place.layer, SettingLayer::Pod | SettingLayer::Namespace)
    }

    /// A refusal because of the value of `id`, which is valid as such. `problem` is a phrase about it.
    pub(super) fn objection(&self, id: SettingId, problem: &str) -> InjectRefusal {
        refused(self.0.get(id).objection(problem))
    }
}

/// The settings among the annotations of `object`.
fn annotated(
    object: &Value,
    layer: SettingLayer,
    prefix: &Prefix,
) -> Result<Vec<(SettingId, RawSetting)>, InjectRefusal> {
    let mut found = Vec::new();
    for (key, value) in texts(object, "annotations").into_iter().flatten() {
        let Some(name) = prefix.strip(key).filter(|name| !OTHERS.contains(name)) else {
            continue;
        };
        let place = SettingPlace {
            layer,
            name: key.clone(),
        };
        let wrong = |problem: &str| refused(SettingError::new(place.clone(), problem));
        let id = SettingId::named(name).ok_or_else(|| wrong(&unknown(name)))?;
        let text = value.as_str();
        let text = text.ok_or_else(|| wrong("its value is not a string"))?;
        found.push((id, raw(id, text.trim(), layer, key.clone())));
    }
    Ok(found)
}

/// An empty text unsets an optional setting.
fn raw(id: SettingId, text: &str, layer: SettingLayer, name: String) -> RawSetting {
    let key = id.setting();
    let is_away = text.is_empty() && key.optional;
    RawValue {
        key,
        texts: (!is_away).then(|| text.to_owned()).into_iter().collect(),
        place: SettingPlace { layer, name },
    }
}

fn refused(error: PlacedError) -> InjectRefusal {
    InjectRefusal::new(error.to_string())
}

impl Display for SettingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.layer {
            SettingLayer::Pod => "the pod's annotation",
            SettingLayer::Namespace => "the namespace's annotation",
            SettingLayer::Operator => "the setting",
            SettingLayer::Default => "the default of",
        };
        write!(f, "{whose} {}", self.name)
    }
}

/// A phrase about an unknown setting.
fn unknown(name: &str) -> String {
    let names = setting::settings().map(|setting| setting.name);
    let problem = format!("there is no setting {name:?}");
    match suggest::nearest(name, names) {
        Some(near) => suggest::did_you_mean(problem, near),
        None => problem,
    }
}

impl SidecarSettings {
    /// The base URL by which the app reaches the sidecar.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// All addresses at which the sidecar listens.
    pub(super) fn listens(&self) -> Vec<SocketAddr> {
        let transparent = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), TRANSPARENT_PORT);
        let transparent = (self.mode == Mode::Transparent).then_some(transparent);
        transparent.into_iter().chain([self.listen]).collect()
    }
}

impl Display for SidecarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Classic => "classic",
        })
    }
}

impl Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BaseUrl => "base-url",
            Self::Transparent => "transparent",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_an_appsecret_is_not_repeated() {
        for name in ["account", "secret", "secret-key", "appid-key"] {
            let error = Presets::parse([format!("{name}=HUNTER2 /x").as_str()]).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(name) && !error.contains("HUNTER2"),
                "{error}"
            );
        }
    }
}
