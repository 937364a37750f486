//! Where an account's AppID and secret were given, so that advice can name the place.

use std::sync::Arc;

use crate::{lang::Lang, secret::SecretSource};

/// What of an account's configuration is wrong, by a reply of WeChat's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongCredential {
    /// The AppID or corpid.
    Appid,
    /// The secret.
    Secret,
}

impl WrongCredential {
    /// A sentence about its place.
    pub(super) fn read_from(self, place: &str, lang: Lang) -> String {
        match (self, lang) {
            (Self::Appid, Lang::En) => format!("the AppID was read from {place}"),
            (Self::Secret, Lang::En) => format!("the secret was read from {place}"),
            (Self::Appid, Lang::Zh) => format!("AppID 读自 {place}"),
            (Self::Secret, Lang::Zh) => format!("secret 读自 {place}"),
        }
    }
}

/// Where both were given.
#[derive(Clone, Debug, Default)]
pub struct CredentialPlaces {
    /// The variable, or the key in a file, that holds the AppID.
    pub appid: Option<Arc<str>>,
    /// The secret, which knows its own place.
    pub secret: Option<Arc<SecretSource>>,
}

impl CredentialPlaces {
    /// A sentence about the place of what is wrong, if it is known.
    pub fn name(&self, wrong: WrongCredential) -> Option<String> {
        Some(wrong.read_from(&self.place(wrong)?, Lang::En))
    }

    /// The place of what is wrong, if it is known.
    pub(super) fn place(&self, wrong: WrongCredential) -> Option<String> {
        match wrong {
            WrongCredential::Appid => self.appid.as_deref().map(str::to_owned),
            WrongCredential::Secret => self.secret.as_ref()?.place(),
        }
    }
}
