//! What user logins leave behind: codes, tokens of users and of third-party platforms.

use std::collections::{HashMap, HashSet};

use fastrand::Rng;
use serde_json::{Value, json};

use super::tokens::random_token;

/// The state that logins leave behind.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// Codes that were redeemed.
    pub(super) used_codes: HashSet<String>,
    /// The openid of each user's token.
    pub(super) user_tokens: HashMap<String, String>,
    /// The openid of each refresh token.
    pub(super) refresh_tokens: HashMap<String, String>,
    /// Tokens of third-party platforms.
    pub(super) component_tokens: HashSet<String>,
}

impl Logins {
    /// A user's token, as if from a login.
    pub(super) fn user_tokens(&mut self, openid: String, rng: &mut Rng) -> Value {
        let token = random_token(rng, "USER-");
        let refresh_token = random_token(rng, "REFRESH-");
        self.user_tokens.insert(token.clone(), openid.clone());
        self.refresh_tokens
            .insert(refresh_token.clone(), openid.clone());
        json!({
            "access_token": token,
            "expires_in": 7200,
            "refresh_token": refresh_token,
            "openid": openid,
            "scope": "snsapi_userinfo",
        })
    }
}
