//! Fetches one ticket from WeChat with an account's token, and finds out how long it lives.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::{
    metrics::{AccountMetrics, Kept, Outcome, Skipped, Ticket},
    secret::Secret,
    token::{
        Expiry, Token,
        keeper::{Keeper, NoToken, PathId, Refusal},
        source::{
            AccountSource, FetchRequest, FetchedToken, TokenError, TokenErrorKind, TokenSource,
            api::ApiClient, lenient, lifetime::TICKET_VOUCHED, redis::TokenSlot, shared::Shared,
        },
    },
    wechat::{
        api::Api,
        errcode::{self, Verdict},
    },
};

/// Longer lifetimes are cut to this.
const MAX_LIFETIME: u64 = 86_400;

/// Requests tickets with the token of one account.
pub struct TicketClient {
    /// Its AppID, or its corpid.
    pub appid: String,
    /// Which API it speaks.
    pub api: Api,
    /// What its keys in the store begin with; `None` for the common prefix.
    pub store_prefix: Option<String>,
    /// Keeps its token.
    pub keeper: Arc<Keeper<AccountSource>>,
    /// Sends its requests.
    pub client: ApiClient,
    /// Its counters.
    pub metrics: Arc<AccountMetrics>,
}

/// The source of a ticket.
pub(super) enum TicketSource {
    /// From WeChat.
    Unshared(AccountTicketSource),
    /// From WeChat, shared with other replicas.
    Shared(Box<Shared<AccountTicketSource, TokenSlot>>),
}

impl TokenSource for TicketSource {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        match self {
            Self::Unshared(source) => source.fetch(request).await,
            Self::Shared(shared) => shared.fetch(request).await,
        }
    }

    fn kept(&self) -> Kept {
        Kept::Ticket
    }
}

/// Fetches one ticket from WeChat.
#[derive(Debug)]
pub(super) struct AccountTicketSource {
    pub(super) ticket: Ticket,
    /// The account that asked for it last.
    pub(super) client: Arc<ArcSwap<TicketClient>>,
}

impl TokenSource for AccountTicketSource {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        let client = self.client.load_full();
        let before = request.current;
        let began = Instant::now();
        let body = client.request(self.ticket, before.is_some()).await?;
        let token = parse_ticket(client.api, &body, before.as_deref())?;
        // It may be as old as the request.
        let (token, fetched) = (token.aged(began.elapsed()), true);
        Ok(FetchedToken { token, fetched })
    }

    fn kept(&self) -> Kept {
        Kept::Ticket
    }
}

impl TicketClient {
    /// Returns WeChat's reply. If it refuses the token, the request is sent once more with another token.
    /// `worked` says whether this endpoint has accepted a request before.
    async fn request(&self, ticket: Ticket, worked: bool) -> Result<Vec<u8>, TokenError> {
        let token = self.keeper.token().await;
        let token = token.map_err(|none| without_token(none).error)?;
        let first = self.send(ticket, &token).await?;
        if !self.refuses(&first, &token) {
            return Ok(first);
        }
        let refusal = Refusal {
            path: PathId::of(ticket.label().as_bytes()),
            worked,
            suspect: false,
            weak: false,
        };
        let Ok(replay) = self.keeper.replay_token(&token, refusal).await else {
            self.metrics.skipped(Skipped::NoToken);
            return Ok(first);
        };
        let body = self.send(ticket, &replay.token).await;
        let body = body.inspect_err(|_| self.metrics.replay(Outcome::Failed))?;
        self.metrics.replay(match Verdict::of(self.api, &body) {
            Verdict::Accepted => Outcome::Accepted,
            Verdict::Errcode(_) | Verdict::UpstreamError => Outcome::Errcode,
            Verdict::Refused(_) => Outcome::Refused,
        });
        if self.refuses(&body, &replay.token) {
            self.keeper.refused_again(&replay.token, refusal);
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
        let separator = if target.ends_with('?') { "" } else { "&" };
        let target = format!("{target}{separator}access_token={}", token.encoded());
        self.client.get(&target).await
    }

    /// Whether a reply refuses the token. Tells the keeper about an accepted token.
    fn refuses(&self, body: &[u8], token: &Token) -> bool {
        match Verdict::of(self.api, body) {
            Verdict::Accepted => self.keeper.accepted(token),
            Verdict::Errcode(_) | Verdict::UpstreamError => {}
            Verdict::Refused(_) => {
                self.metrics.refusal();
                return true;
            }
        }
        false
    }
}

/// Reads the ticket from `body`. It may be the same as `before`.
fn parse_ticket(api: Api, body: &[u8], before: Option<&Token>) -> Result<Token, TokenError> {
    let reply = lenient::json(body);
    let field = |name: &str| reply.as_ref()?.get(name);
    if let Some(code) = errcode::errcode(body).filter(|code| *code != 0) {
        let message = field("errmsg").and_then(Value::as_str);
        let message = message.unwrap_or("no errmsg").chars();
        return Err(TokenError::Errcode {
            code,
            message: message.filter(|c| !c.is_control()).take(300).collect(),
            kind: error_kind(api, code),
        });
    }
    let ticket = field("ticket").and_then(Value::as_str);
    let seconds = field("expires_in").and_then(lenient::seconds);
    match (ticket.filter(|ticket| !ticket.is_empty()), seconds) {
        (Some(ticket), Some(1..)) => {
            let claimed = Duration::from_secs(seconds.unwrap_or_default().min(MAX_LIFETIME));
            Ok(fetched(Secret::new(ticket), claimed, before))
        }
        _ => {
            let length = body.len();
            let problem = format!("{length} bytes, in which there is no ticket");
            Err(TokenError::Invalid(problem))
        }
    }
}

/// A ticket that WeChat returned after `before`, with a `claimed` lifetime that does not depend on its age.
pub fn fetched(ticket: Secret, claimed: Duration, before: Option<&Token>) -> Token {
    let (lifetime, expiry) = match before {
        // Nobody knows how old the first one is.
        None => (claimed, Expiry::Unknown),
        Some(before) if *before.value() == ticket => match before.expiry() {
            Expiry::Unknown => (claimed, Expiry::Unknown),
            Expiry::Known => {
                let vouched = TICKET_VOUCHED.min(claimed / 16);
                (before.remaining().max(vouched).min(claimed), Expiry::Known)
            }
        },
        // It was created at some time after the one before was fetched. If that was long ago, it says little.
        Some(before) => match claimed.saturating_sub(before.age()) {
            least if least >= claimed / 4 => (least, Expiry::Known),
            _ => (claimed, Expiry::Unknown),
        },
    };
    Token::new(ticket, lifetime).with_expiry(expiry)
}

/// The kind of error that an errcode of a ticket request means.
fn error_kind(api: Api, code: i64) -> TokenErrorKind {
    match code {
        -1 | 40001 | 40014 | 42001 => TokenErrorKind::Busy,
        45009 if api == Api::Wechat => TokenErrorKind::DailyQuota,
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
        let mut shown = f.debug_struct("TicketClient");
        shown.field("appid", &self.appid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
