//! Whether the store answers, and whether it holds tokens.

use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::report::{Check, Finding};
use crate::{
    account,
    config::Config,
    token::{
        Token,
        source::{
            redis::Redis,
            store::{Store, StoreError, StoredToken},
        },
    },
};

/// How many accounts are looked up at once.
const AT_ONCE: usize = 16;

/// What the store holds.
#[derive(Debug, Default)]
pub(super) struct StoreContent {
    pub(super) findings: Vec<Finding>,
    /// The tokens in it, each with the id of its account.
    tokens: Vec<(String, StoredToken)>,
}

impl StoreContent {
    /// The token of `account` in it.
    pub(super) fn token_of(&self, account: &account::Options) -> Option<Token> {
        let mut tokens = self.tokens.iter();
        let (_, token) = tokens.find(|(id, _)| id == account.id())?;
        Some(Token::new(token.value.clone(), token.remaining))
    }
}

/// Reads the token of each account that uses the store. There is no later answer than at `deadline`.
pub(super) async fn look(config: &Config, deadline: Instant) -> StoreContent {
    let mut content = StoreContent::default();
    let Some(options) = &config.store else {
        return content;
    };
    let subject = format!("{}:{}", options.host, options.port);
    let redis = Redis::new(options.clone(), config.connect.dns.nearby());
    let using = config.accounts.iter().filter(|one| one.uses_store());
    let reads = using.map(|account| {
        let slot = redis.slot(account.key_parts());
        async move {
            let started = Instant::now();
            let found = timeout_at(deadline, slot.read()).await;
            let found = found.unwrap_or(Err(StoreError::NoReply));
            (account, found.map(|state| state.token), started.elapsed())
        }
    });
    let mut reads = stream::iter(reads).buffered(AT_ONCE);
    while let Some((account, found, took)) = reads.next().await {
        let finding = match found {
            Ok(token) => {
                let holds = if token.is_some() { "a" } else { "no" };
                let appid = &account.appid;
                let sentence = format!("the store answers, and holds {holds} token of {appid}");
                let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                let token = token.map(|token| (account.id().to_owned(), token));
                content.tokens.extend(token);
                Finding::ok(Check::Store, &subject, sentence)
                    .detail("account", account.id())
                    .detail("milliseconds", millis)
            }
            Err(error) => Finding::failed(Check::Store, &subject, format!("the store: {error}"))
                .advise("look at the store and at the network to it"),
        };
        // A store that is away is so for all accounts.
        if !content.findings.contains(&finding) {
            content.findings.push(finding);
        }
    }
    content
}
