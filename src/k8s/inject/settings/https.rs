//! The settings of transparent https, and of where the accounts are, because both depend on others.

use super::{AccountSecret, Mode, PlacedError, SettingId, SettingLayers, SidecarSettings};
use crate::{
    k8s::inject::{
        https::{self, ConfigMapKey, HttpsSettings},
        names::object_name,
        trust_env, values,
    },
    settings::parse,
};

impl SettingLayers {
    /// The source of the AppID.
    pub(super) fn account(&self) -> Result<AccountSecret, PlacedError> {
        let layers = &self.0;
        let places = [("secret", false), ("config-map", true)];
        let appid = layers.optional(SettingId::Account, values::appid)?;
        let key = layers.value(SettingId::AppidKey, values::data_key)?;
        let are_in_file = layers.value(SettingId::Accounts, parse::one_of(&places))?;
        match (are_in_file, appid) {
            (false, Some(appid)) => Ok(AccountSecret::Appid(appid)),
            (false, None) => Ok(AccountSecret::Key(key)),
            (true, None) => Ok(AccountSecret::ConfigMap),
            (true, Some(_)) => {
                let problem = "is set as well: with accounts in the ConfigMap, drop account";
                Err(layers.error(SettingId::Account, problem))
            }
        }
    }

    /// The settings of https, if it is on.
    pub(super) fn https(&self) -> Result<Option<HttpsSettings>, PlacedError> {
        let layers = &self.0;
        let more_hosts = layers.optional(SettingId::HttpsHosts, https::hosts)?;
        let trust_env = layers.optional(SettingId::TrustEnv, trust_env::parse)?;
        let roots = layers.optional(SettingId::TrustAlso, object_name)?;
        let key = layers.value(SettingId::TrustAlsoKey, values::data_key)?;
        let is_on = layers.value(SettingId::Https, parse::boolean)?;
        Ok(is_on.then(|| HttpsSettings {
            more_hosts: more_hosts.unwrap_or_default(),
            trust_env: trust_env.unwrap_or_default(),
            trust_also: roots.map(|name| ConfigMapKey { name, key }),
        }))
    }

    /// Checks that https and the accounts have what they need.
    pub(super) fn agree_on_https(&self, settings: &SidecarSettings) -> Result<(), PlacedError> {
        let objection = |id, problem| Err(self.0.get(id).objection(problem));
        if settings.https.is_some() && settings.mode != Mode::Transparent {
            return objection(
                SettingId::Https,
                "is for transparent mode: set mode to transparent, too",
            );
        }
        if settings.account == AccountSecret::ConfigMap && settings.config_map.is_none() {
            return objection(
                SettingId::Accounts,
                "needs the setting config-map, which names the ConfigMap",
            );
        }
        Ok(())
    }
}
