//! Asks WeChat for one ticket, with whichever account's token, and says how old the answer is.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::time::Duration;

use crate::{
    metrics::{AccountMetrics, Kept, Outcome, Skipped, Ticket},
    secret::Secret,
    token::{
        Token,
        keeper::{Keeper, NoToken},
        source::{
            AccountSource, FetchRequest, FetchedToken, TokenError, TokenErrorKind, TokenSource,
            api::ApiClient, redis::TokenSlot, shared::Shared,
        },
    },
    wechat::{
        api::Api,
        errcode::{self, Verdict},
    },
};

/// How long a ticket is good for that WeChat goes on giving when its life should be over.
const VOUCHED: Duration = Duration::from_secs(60);

/// Only the clock's range matters.
const LONGEST: u64 = 86_400;

/// Who asks for tickets: an account's token, and how it reaches WeChat.
pub struct TicketClient {
    /// Its AppID, or its corpid.
    pub appid: String,
    /// Which API it speaks.
    pub kind: Api,
    /// Its token.
    pub keeper: Arc<Keeper<AccountSource>>,
    /// How it reaches WeChat.
    pub reach: ApiClient,
    /// Its counters.
    pub metrics: Arc<AccountMetrics>,
}

/// Where a ticket comes from.
pub(super) enum TicketSource {
    /// From WeChat.
    Alone(AccountTicketSource),
    /// From WeChat, shared with other replicas.
    Shared(Box<Shared<AccountTicketSource, TokenSlot>>),
}

impl TokenSource for TicketSource {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        match self {
            Self::Alone(issuer) => issuer.fetch(wanted).await,
            Self::Shared(shared) => shared.fetch(wanted).await,
        }
    }

    fn kept(&self) -> Kept {
        Kept::Ticket
    }
}

/// Asks WeChat for one ticket.
#[derive(Debug)]
pub(super) struct AccountTicketSource {
    pub(super) ticket: Ticket,
    /// Who asked last.
    pub(super) asker: Arc<ArcSwap<TicketClient>>,
}

impl TokenSource for AccountTicketSource {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        let asker = self.asker.load_full();
        let before = wanted.current;
        let body = asker.ask(self.ticket, before.is_some()).await?;
        let token = understand(asker.kind, &body, before.as_deref())?;
        let fetched = true;
        Ok(FetchedToken { token, fetched })
    }

    fn kept(&self) -> Kept {
        Kept::Ticket
    }
}

impl TicketClient {
    /// WeChat's answer; where it refuses the token, the one to another token. `worked`: it had been
    /// accepted before.
    async fn ask(&self, ticket: Ticket, worked: bool) -> Result<Vec<u8>, TokenError> {
        let token = self.keeper.token().await;
        let token = token.map_err(|none| without_token(none).error)?;
        let first = self.send(ticket, &token).await?;
        if !self.refuses(&first, &token) {
            return Ok(first);
        }
        let Ok(second) = self.keeper.replay_token(&token).await else {
            self.metrics.skipped(Skipped::NoToken);
            return Ok(first);
        };
        let body = self.send(ticket, &second.token).await;
        let body = body.inspect_err(|_| self.metrics.replay(Outcome::Failed))?;
        self.metrics.replay(match Verdict::of(self.kind, &body) {
            Verdict::Accepted => Outcome::Accepted,
            Verdict::Errcode(_) => Outcome::Errcode,
            Verdict::Refused(_) => Outcome::Refused,
        });
        if self.refuses(&body, &second.token) {
            self.keeper.refused_again(&second.token, worked);
        }
        Ok(body)
    }

    async fn send(&self, ticket: Ticket, token: &Token) -> Result<Vec<u8>, TokenError> {
        let target = match ticket {
            Ticket::Jsapi => "/cgi-bin/ticket/getticket?type=jsapi",
            Ticket::Card => "/cgi-bin/ticket/getticket?type=wx_card",
            Ticket::Sdk => "/cgi-bin/ticket/getticket?type=2",
            Ticket::Corp => "/cgi-bin/get_jsapi_ticket?",
            Ticket::Agent => "/cgi-bin/ticket/get?type=agent_config",
        };
        let mark = if target.ends_with('?') { "" } else { "&" };
        let target = format!("{target}{mark}access_token={}", token.encoded());
        self.reach.get(&target).await
    }

    /// Notes what an answer says about the token.
    fn refuses(&self, body: &[u8], token: &Token) -> bool {
        match Verdict::of(self.kind, body) {
            Verdict::Accepted => self.keeper.accepted(token),
            Verdict::Errcode(_) => {}
            Verdict::Refused(_) => {
                self.metrics.refusal();
                return true;
            }
        }
        false
    }
}

/// The ticket in `body`, which may be the one known `before`.
fn understand(kind: Api, body: &[u8], before: Option<&Token>) -> Result<Token, TokenError> {
    let reply: Option<Value> = serde_json::from_slice(body).ok();
    let field = |name: &str| reply.as_ref()?.get(name);
    if let Some(code) = errcode::errcode(body).filter(|code| *code != 0) {
        let message = field("errmsg").and_then(Value::as_str);
        let message = message.unwrap_or("no errmsg").chars();
        return Err(TokenError::Refused {
            code,
            message: message.filter(|c| !c.is_control()).take(300).collect(),
            kind: meaning(kind, code),
        });
    }
    let ticket = field("ticket").and_then(Value::as_str);
    let seconds = field("expires_in").and_then(|seconds| match seconds {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    });
    match (ticket.filter(|ticket| !ticket.is_empty()), seconds) {
        (Some(ticket), Some(1..)) => {
            let said = Duration::from_secs(seconds.unwrap_or_default().min(LONGEST));
            let ticket = Secret::new(ticket);
            let left = left(said, &ticket, before);
            Ok(Token::new(ticket, left))
        }
        _ => {
            let length = body.len();
            let problem = format!("{length} bytes, in which there is no ticket");
            Err(TokenError::Nonsense(problem))
        }
    }
}

/// What can be left of the life of a ticket of which WeChat says that it lives for `said`.
fn left(said: Duration, ticket: &Secret, before: Option<&Token>) -> Duration {
    match before {
        // It is as old as it was.
        Some(before) if before.value() == ticket => {
            before.remaining().max(VOUCHED.min(said / 16)).min(said)
        }
        // It was made at some time since the other one was brought.
        Some(before) if before.age() < said => (said - before.age()).max(said / 2),
        _ => said,
    }
}

/// What an errcode calls for that is answered instead of a ticket.
fn meaning(kind: Api, code: i64) -> TokenErrorKind {
    match code {
        -1 | 40001 | 40014 | 42001 => TokenErrorKind::Busy,
        45009 if kind == Api::Wechat => TokenErrorKind::DailyQuota,
        45009 | 45011 | 45033 => TokenErrorKind::MinuteQuota,
        40164 | 60020 | 61004 => TokenErrorKind::NotWhitelisted,
        _ => TokenErrorKind::Unknown,
    }
}

pub(super) fn without_token(none: NoToken) -> NoToken {
    NoToken {
        error: TokenError::WithoutToken(Box::new(none.error)),
        retry_after: none.retry_after,
    }
}

impl fmt::Debug for TicketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Asker");
        shown.field("appid", &self.appid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
