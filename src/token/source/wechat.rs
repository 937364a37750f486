//! Tokens from WeChat: which of the two, and how it is asked for.
//!
//! <https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html> and
//! <https://developers.weixin.qq.com/doc/service/api/base/api_getaccesstoken.html>.

use std::sync::Arc;

use serde_json::json;

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    api::{ApiClient, Client, TokenClient},
};
use crate::{
    net::connector::Connector,
    secret::{Secret, SecretSource},
    token::encode,
    wechat::api::Api,
};

/// Which of WeChat's two tokens is used. They do not know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenApi {
    /// `POST /cgi-bin/stable_token`, in normal mode: the same token for all who ask.
    Stable,
    /// `GET /cgi-bin/token`: each request mints a new token and ends the one before.
    Classic,
}

/// Asks WeChat for the tokens of one account.
#[derive(Debug)]
pub struct Wechat {
    requests: TokenClient,
    api: TokenApi,
    appid: String,
}

impl Wechat {
    /// An issuer for `appid` that goes by `route`.
    pub fn new(
        client: Client,
        route: Arc<Connector>,
        api: TokenApi,
        appid: String,
        secret: Arc<SecretSource>,
    ) -> Self {
        let requests = TokenClient {
            api: ApiClient::new(client, route),
            kind: Api::Wechat,
            secret,
        };
        Self {
            requests,
            api,
            appid,
        }
    }
}

impl TokenSource for Wechat {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
        let token = self.requests.send(|client, origin, secret| match self.api {
            TokenApi::Stable => {
                let body = json!({
                    "grant_type": "client_credential",
                    "appid": self.appid,
                    "secret": secret.expose(),
                    "force_refresh": false,
                });
                client
                    .post(format!("{origin}/cgi-bin/stable_token"))
                    .json(&body)
            }
            TokenApi::Classic => client.get(format!(
                "{origin}/cgi-bin/token?grant_type=client_credential&appid={}&secret={}",
                encode(&Secret::new(&*self.appid)).expose(),
                encode(secret).expose()
            )),
        });
        let (token, fetched) = (token.await?, true);
        Ok(FetchedToken { token, fetched })
    }

    fn credential_fingerprint(&self) -> u16 {
        self.requests.credential_fingerprint()
    }
}
