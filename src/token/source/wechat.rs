//! Fetches tokens from WeChat: stable or classic ones.
//!
//! <https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html> and
//! <https://developers.weixin.qq.com/doc/service/api/base/api_getaccesstoken.html>.

use std::sync::Arc;

use serde_json::json;

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    api::{ApiClient, Client, TokenClient},
    revocation::{ForcedRefreshes, NotRevocable, RevocationMethod},
};
use crate::{
    metrics::Cause,
    net::connector::Connector,
    secret::{Secret, SecretSource},
    token::encode,
    wechat::api::Api,
};

/// Which of WeChat's two tokens is used. They are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenApi {
    /// `POST /cgi-bin/stable_token`: in normal mode every request returns the same token. A forced refresh returns
    /// another one, and is for revoking a token alone.
    Stable,
    /// `GET /cgi-bin/token`: each request creates a new token and revokes the one before.
    Classic,
}

/// Fetches the tokens of one account from WeChat.
#[derive(Debug)]
pub struct WechatSource {
    client: TokenClient,
    token_api: TokenApi,
    appid: String,
    forced: Box<ForcedRefreshes>,
}

impl WechatSource {
    /// Fetches the tokens of `appid` over the upstream of `connector`.
    pub fn new(
        client: Client,
        connector: Arc<Connector>,
        token_api: TokenApi,
        appid: String,
        secret: Arc<SecretSource>,
    ) -> Self {
        let client = TokenClient {
            client: ApiClient::new(client, connector),
            api: Api::Wechat,
            secret,
        };
        Self {
            client,
            token_api,
            appid,
            forced: Box::new(ForcedRefreshes::new(None)),
        }
    }

    /// The same with forced refreshes counted by `forced`.
    pub fn with_forced(self, forced: ForcedRefreshes) -> Self {
        let forced = Box::new(forced);
        Self { forced, ..self }
    }
}

impl TokenSource for WechatSource {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        let force = request.cause == Cause::Revoke && self.token_api == TokenApi::Stable;
        if force {
            self.forced.count().await?;
        }
        let token = self
            .client
            .send(|client, origin, secret| match self.token_api {
                TokenApi::Stable => {
                    let body = json!({
                        "grant_type": "client_credential",
                        "appid": self.appid,
                        "secret": secret.expose(),
                        "force_refresh": force,
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
        self.client.credential_fingerprint()
    }

    fn revocation(&self) -> Result<RevocationMethod, NotRevocable> {
        Ok(match self.token_api {
            TokenApi::Stable => RevocationMethod::TwoRefreshes,
            TokenApi::Classic => RevocationMethod::OneRequest,
        })
    }
}
