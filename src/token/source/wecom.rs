//! Tokens from WeCom: one for each secret of a corp, and the same one for all who ask.
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

/// Asks WeCom for the tokens of one account: an app of a corp, or another holder of a secret.
#[derive(Debug)]
pub struct Wecom {
    requests: TokenClient,
    corpid: String,
}

impl Wecom {
    /// An issuer for the holder of `secret` in the corp `corpid`, that goes by `route`.
    pub fn new(
        client: Client,
        route: Arc<Connector>,
        corpid: String,
        secret: Arc<SecretSource>,
    ) -> Self {
        let requests = TokenClient {
            api: ApiClient::new(client, route),
            kind: Api::Wecom,
            secret,
        };
        Self { requests, corpid }
    }
}

impl TokenSource for Wecom {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        let token = self.requests.send(|client, origin, secret| {
            client.get(format!(
                "{origin}/cgi-bin/gettoken?corpid={}&corpsecret={}",
                encode(&Secret::new(&*self.corpid)).expose(),
                encode(secret).expose()
            ))
        });
        let token = believed(token.await?, wanted.current.as_deref());
        let fetched = true;
        Ok(FetchedToken { token, fetched })
    }

    fn credential_fingerprint(&self) -> u16 {
        self.requests.credential_fingerprint()
    }
}

/// WeCom hands a token out again until it expires, and may say each time that it lives for the whole
/// 7200 s. So a token in hand lives no longer for being brought once more; only where it should be
/// dead by now, and WeCom says that it is not, is that believed.
fn believed(token: Token, in_hand: Option<&Token>) -> Token {
    match in_hand.filter(|held| held.is(&token) && held.is_alive()) {
        Some(held) if held.remaining() < token.lifetime() => {
            Token::new(token.value().clone(), held.remaining())
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
        for (brought, seconds) in [
            (token("same", 7200), 200),
            (token("same", 100), 100),
            (token("another", 7200), 7200),
        ] {
            let believed = believed(brought, Some(&held));
            assert_eq!(believed.lifetime().as_secs(), seconds);
        }
        assert_eq!(
            believed(token("same", 7200), None).lifetime().as_secs(),
            7200
        );
        advance(Duration::from_secs(201)).await;
        let again = believed(token("same", 7200), Some(&held));
        assert_eq!(again.lifetime().as_secs(), 7200);
    }
}
