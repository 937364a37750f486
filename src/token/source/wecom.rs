//! Fetches tokens from WeCom. There is one for each secret of a corp, and every request returns the same one.
//!
//! <https://developer.work.weixin.qq.com/document/path/91039>.

use std::sync::Arc;

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    api::{ApiClient, Client, TokenClient},
};
use crate::{
    net::connector::Connector,
    secret::{Secret, SecretSource},
    token::{Token, encode},
    wechat::api::Api,
};

/// Fetches the tokens of one account from WeCom.
#[derive(Debug)]
pub struct WecomSource {
    client: TokenClient,
    corpid: String,
}

impl WecomSource {
    /// Fetches the tokens of `secret` in the corp `corpid` over the upstream of `connector`.
    pub fn new(
        client: Client,
        connector: Arc<Connector>,
        corpid: String,
        secret: Arc<SecretSource>,
    ) -> Self {
        let client = TokenClient {
            client: ApiClient::new(client, connector),
            api: Api::Wecom,
            secret,
        };
        Self { client, corpid }
    }
}

impl TokenSource for WecomSource {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        let token = self.client.send(|client, origin, secret| {
            client.get(format!(
                "{origin}/cgi-bin/gettoken?corpid={}&corpsecret={}",
                encode(&Secret::new(&*self.corpid)).expose(),
                encode(secret).expose()
            ))
        });
        let token = limit_lifetime(token.await?, request.current.as_deref());
        let fetched = true;
        Ok(FetchedToken { token, fetched })
    }

    fn credential_fingerprint(&self) -> u16 {
        self.client.credential_fingerprint()
    }
}

/// WeCom returns the same token until it expires, and may claim a lifetime of 7200 s each time. So fetching
/// the current token again does not extend its lifetime. If the token should have expired, WeCom's claim
/// is used.
fn limit_lifetime(token: Token, current: Option<&Token>) -> Token {
    match current.filter(|current| current.is(&token) && current.is_alive()) {
        Some(current) if current.remaining() < token.lifetime() => {
            Token::new(token.value().clone(), current.remaining())
        }
        _ => token,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, advance};

    use super::*;

    fn token(value: &str, seconds: u64) -> Token {
        Token::new(Secret::new(value), Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_lives_no_longer_for_being_brought_again() {
        let held = token("same", 7200);
        advance(Duration::from_secs(7000)).await;
        for (fetched, seconds) in [
            (token("same", 7200), 200),
            (token("same", 100), 100),
            (token("another", 7200), 7200),
        ] {
            let limited = limit_lifetime(fetched, Some(&held));
            assert_eq!(limited.lifetime().as_secs(), seconds);
        }
        assert_eq!(
            limit_lifetime(token("same", 7200), None)
                .lifetime()
                .as_secs(),
            7200
        );
        advance(Duration::from_secs(201)).await;
        let again = limit_lifetime(token("same", 7200), Some(&held));
        assert_eq!(again.lifetime().as_secs(), 7200);
    }
}
