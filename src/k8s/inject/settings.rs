//! What the pod, its namespace and the operator say about the sidecar, checked.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use serde_json::Value;
use tokio::time::Duration;

use super::{
    Refusal,
    names::{Prefix, texts},
    setting::{self, SettingId},
    values::{self, Quantity},
};
use crate::settings::suggest;

/// How the sidecar stands in the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SidecarKind {
    /// An initContainer that is always restarted: Kubernetes 1.29 and newer.
    Native,
    /// A container among the app's.
    Classic,
}

/// How the app finds the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// By the base URL in its environment.
    BaseUrl,
    /// By WeChat's own name, which the pod resolves to the sidecar.
    Transparent,
}

/// How the kubelet probes the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probes {
    /// By HTTP, unless there is a service mesh.
    Auto,
    /// From outside of the pod.
    Http,
    /// By a command in the container: nothing of it goes over the network.
    Exec,
}

/// Whose AppID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AccountSecret {
    /// This one.
    Appid(String),
    /// The one at this key of the Secret.
    Key(String),
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

/// CPU and memory, each if it is wanted.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    pub(super) cpu: Option<Quantity>,
    pub(super) memory: Option<Quantity>,
}

/// Settings for pods that do not say their own, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Presets(Vec<(SettingId, String)>);

impl Presets {
    /// Reads `NAME=VALUE` texts, and checks them. The error is a sentence.
    pub fn parse<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut presets = Vec::new();
        for text in given {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| "it takes NAME=VALUE; for example secret=wechat".to_owned())?;
            let id = SettingId::named(name).ok_or_else(|| unknown(name))?;
            presets.push((id, value.to_owned()));
        }
        let presets = Self(presets);
        let prefix = Prefix::default();
        SettingLayers::gather(&prefix, &presets, &Value::Null, &Value::Null)
            .and_then(|layers| layers.settings())
            .map_err(|refusal| refusal.to_string())?;
        Ok(presets)
    }
}

/// Who said it, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SettingPlace {
    Pod,
    Namespace,
    Operator,
    Nobody,
}

/// Each setting's text and who said it; the pod's word beats its namespace's, which beats the operator's.
pub(super) struct SettingLayers<'a> {
    prefix: &'a Prefix,
    given: BTreeMap<SettingId, (String, SettingPlace)>,
}

/// The annotations that are no settings: one is written, one decides.
const OTHERS: [&str; 2] = ["status", "inject"];

impl<'a> SettingLayers<'a> {
    /// Puts the layers on top of each other. An annotation under our prefix that is none is an error.
    pub(super) fn gather(
        prefix: &'a Prefix,
        presets: &Presets,
        namespace: &Value,
        pod: &Value,
    ) -> Result<Self, Refusal> {
        let mut given = BTreeMap::new();
        for id in SettingId::all() {
            given.insert(id, (id.setting().preset.to_owned(), SettingPlace::Nobody));
        }
        for (id, text) in &presets.0 {
            given.insert(*id, (text.clone(), SettingPlace::Operator));
        }
        for (object, place) in [
            (namespace, SettingPlace::Namespace),
            (pod, SettingPlace::Pod),
        ] {
            for (key, value) in texts(object, "annotations").into_iter().flatten() {
                let Some(name) = prefix.strip(key).filter(|name| !OTHERS.contains(name)) else {
                    continue;
                };
                let Some(id) = SettingId::named(name) else {
                    let whose = place.possessive();
                    return Err(Refusal::new(format!(
                        "{whose} annotation {key}: {}",
                        unknown(name)
                    )));
                };
                let text = value.as_str().ok_or_else(|| {
                    Refusal::new(format!(
                        "{} annotation {key}: its value is not a string",
                        place.possessive()
                    ))
                })?;
                given.insert(id, (text.trim().to_owned(), place));
            }
        }
        Ok(Self { prefix, given })
    }

    /// Reads all of them.
    pub(super) fn settings(&self) -> Result<SidecarSettings, Refusal> {
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
        let appid = self.optional(SettingId::Account, values::appid)?;
        let appid_key = self.value(SettingId::AppidKey, values::data_key)?;
        let settings = SidecarSettings {
            secret: self.value(SettingId::Secret, values::object_name)?,
            secret_key: self.value(SettingId::SecretKey, values::data_key)?,
            account: appid.map_or(AccountSecret::Key(appid_key), AccountSecret::Appid),
            listen: self.value(SettingId::Listen, values::listen)?,
            admin: self.value(SettingId::Admin, values::admin)?,
            sidecar: self.value(SettingId::Sidecar, values::choice(&sidecars))?,
            mode: self.value(SettingId::Mode, values::choice(&modes))?,
            readiness: self.value(SettingId::Readiness, values::truth)?,
            requests: self.resources(SettingId::CpuRequest, SettingId::MemoryRequest)?,
            limits: self.resources(SettingId::CpuLimit, SettingId::MemoryLimit)?,
            image: self.value(SettingId::Image, values::image)?,
            image_pull_policy: self.optional(SettingId::ImagePullPolicy, values::pull_policy)?,
            image_pull_secret: self.optional(SettingId::ImagePullSecret, values::object_name)?,
            run_as_user: self.optional(SettingId::RunAsUser, values::user)?,
            probes: self.value(SettingId::Probes, values::choice(&probes))?,
            config_map: self.optional(SettingId::ConfigMap, values::object_name)?,
            log_level: self.optional(SettingId::LogLevel, values::log_level)?,
            shutdown_delay: self.optional(SettingId::ShutdownDelay, values::pause)?,
        };
        self.agree(&settings)?;
        Ok(settings)
    }

    fn resources(&self, cpu: SettingId, memory: SettingId) -> Result<Resources, Refusal> {
        Ok(Resources {
            cpu: self.optional(cpu, values::quantity)?,
            memory: self.optional(memory, values::memory)?,
        })
    }

    /// What no setting can say alone.
    fn agree(&self, settings: &SidecarSettings) -> Result<(), Refusal> {
        if settings.listen.port() == settings.admin.port() {
            let id = if self.given[&SettingId::Admin].1 < self.given[&SettingId::Listen].1 {
                SettingId::Admin
            } else {
                SettingId::Listen
            };
            return Err(self.objection(id, "has the port of the other one, listen or admin"));
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
                return Err(self.objection(id, &format!("is more than the limit, {}", limit.text)));
            }
        }
        Ok(())
    }

    fn optional<T>(
        &self,
        id: SettingId,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Refusal> {
        let (text, _) = &self.given[&id];
        if text.is_empty() && id.setting().optional {
            return Ok(None);
        }
        let read = read(text);
        read.map(Some).map_err(|problem| self.refusal(id, &problem))
    }

    fn value<T>(
        &self,
        id: SettingId,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Refusal> {
        let (text, _) = &self.given[&id];
        read(text).map_err(|problem| self.refusal(id, &problem))
    }

    /// Whether the pod or its namespace said something for `id`.
    pub(super) fn is_annotated(&self, id: SettingId) -> bool {
        let (text, place) = &self.given[&id];
        !text.is_empty() && matches!(place, SettingPlace::Pod | SettingPlace::Namespace)
    }

    /// A refusal because of what was said for `id`, of which `problem` is a phrase.
    pub(super) fn refusal(&self, id: SettingId, problem: &str) -> Refusal {
        let example = id.setting().example;
        self.objection(id, &format!("{problem}; for example {example}"))
    }

    /// The same where the value is right as such.
    pub(super) fn objection(&self, id: SettingId, problem: &str) -> Refusal {
        let (text, place) = &self.given[&id];
        let subject = match id {
            // It may be an AppSecret by mistake.
            SettingId::Account | SettingId::Secret | SettingId::SecretKey | SettingId::AppidKey => {
                "its value".to_owned()
            }
            _ => format!("{:?}", text.chars().take(60).collect::<String>()),
        };
        let place = place.of(&self.prefix.key(id.setting().name), id.setting().name);
        Refusal::new(format!("{place}: {subject} {problem}"))
    }
}

impl SettingPlace {
    fn possessive(self) -> &'static str {
        match self {
            Self::Namespace => "the namespace's",
            Self::Pod | Self::Operator | Self::Nobody => "the pod's",
        }
    }

    fn of(self, key: &str, name: &str) -> String {
        match self {
            Self::Pod | Self::Namespace => format!("{} annotation {key}", self.possessive()),
            Self::Operator => format!("the setting {name}"),
            Self::Nobody => format!("the default of {key}"),
        }
    }
}

/// A phrase about a setting that there is not.
fn unknown(name: &str) -> String {
    let names = setting::settings().map(|setting| setting.name);
    match suggest::nearest(name, names) {
        Some(near) => format!("there is no setting {name:?}; did you mean {near}?"),
        None => format!("there is no setting {name:?}"),
    }
}

impl SidecarSettings {
    /// Where the app reaches the sidecar, as a base URL.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// All addresses at which the sidecar listens.
    pub(super) fn listens(&self) -> Vec<SocketAddr> {
        let transparent =
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), super::transparent::PORT);
        let transparent = (self.mode == Mode::Transparent).then_some(transparent);
        transparent.into_iter().chain([self.listen]).collect()
    }
}

impl fmt::Display for SidecarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Classic => "classic",
        })
    }
}

impl fmt::Display for Mode {
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
            assert!(
                error.contains(name) && !error.contains("HUNTER2"),
                "{error}"
            );
        }
    }
}
