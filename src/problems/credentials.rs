//! Where an account's AppID and secret were given, so that advice can name the place.

use std::sync::Arc;

use crate::secret::SecretSource;

/// What of an account's configuration is wrong, by a reply of WeChat's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongCredential {
    /// The AppID or corpid.
    Appid,
    /// The secret.
    Secret,
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
        match wrong {
            WrongCredential::Appid => {
                let place = self.appid.as_deref()?;
                Some(format!("the AppID was read from {place}"))
            }
            WrongCredential::Secret => {
                let place = self.secret.as_ref()?.place()?;
                Some(format!("the secret was read from {place}"))
            }
        }
    }
}
