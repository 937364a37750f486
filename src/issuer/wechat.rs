//! Tokens from WeChat: which of the two, and how it is asked for.
//!
//! <https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html> and
//! <https://developers.weixin.qq.com/doc/service/api/base/api_getaccesstoken.html>.

use std::sync::Arc;

use serde_json::json;

use super::{
    Issue, IssueError, Issued, Wanted,
    request::{Client, Reach, Requests},
};
use crate::{
    kind::Kind,
    secret::{Secret, SecretSource},
    token::encode,
    upstream::route::Route,
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
    requests: Requests,
    api: TokenApi,
    appid: String,
}

impl Wechat {
    /// An issuer for `appid` that goes by `route`.
    pub fn new(
        client: Client,
        route: Arc<Route>,
        api: TokenApi,
        appid: String,
        secret: Arc<SecretSource>,
    ) -> Self {
        let requests = Requests {
            reach: Reach::new(client, route),
            kind: Kind::Wechat,
            secret,
        };
        Self {
            requests,
            api,
            appid,
        }
    }
}

impl Issue for Wechat {
    async fn issue(&self, _: Wanted) -> Result<Issued, IssueError> {
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
        Ok(Issued { token, fetched })
    }

    fn circumstances(&self) -> u16 {
        self.requests.circumstances()
    }
}
