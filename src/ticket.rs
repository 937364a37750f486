//! Tickets, which pages and cards are signed with: kept like tokens, but by our own clock.
//!
//! WeChat says 7200 s even of a ticket that is old (and forgets to say how old), allows few requests
//! for them, and ends none of them when it ends a token. So a ticket is taken to be as old as we have
//! known it, is renewed after half of what is left, and only as long as somebody asks for it.
//!
//! <https://developers.weixin.qq.com/doc/service/guide/h5/jssdk.html> and, of WeCom,
//! <https://developer.work.weixin.qq.com/document/path/90506>.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::time::Duration;

use crate::{
    errcode::{self, Verdict},
    issuer::{Issue, IssueError, Issued, Issuer, Meaning, Wanted, request::Reach},
    keeper::{self, Keeper, NoToken, schedule::Renewal},
    kind::Kind,
    metrics::{AccountMetrics, Kept, Outcome, Skipped, Ticket},
    secret::Secret,
    token::Token,
};

/// How long a ticket is good for that WeChat goes on giving when its life should be over.
const VOUCHED: Duration = Duration::from_secs(60);

/// Only the clock's range matters.
const LONGEST: u64 = 86_400;

/// The tickets of one account, none of which is fetched before it is asked for.
pub struct Tickets {
    asker: Arc<Asker>,
    kept: Vec<(Ticket, Arc<Of>)>,
}

/// A ticket, and who lends the token to fetch it.
struct Of {
    keeper: Arc<Keeper<TicketIssuer>>,
    asker: Arc<ArcSwap<Asker>>,
}

/// The corp tickets, which are a corp's and not an account's.
#[derive(Debug, Default)]
pub struct Corps(Mutex<HashMap<String, Weak<Of>>>);

/// Who asks for tickets: an account's token, and how it reaches WeChat.
pub struct Asker {
    /// Its AppID, or its corpid.
    pub appid: String,
    /// Which API it speaks.
    pub kind: Kind,
    /// Its token.
    pub keeper: Arc<Keeper<Issuer>>,
    /// How it reaches WeChat.
    pub reach: Reach,
    /// Its counters.
    pub metrics: Arc<AccountMetrics>,
}

impl Tickets {
    /// The tickets of an account, where a call waits up to `patience` for one. Their fetches run on
    /// the current runtime.
    pub fn new(asker: Asker, corps: &Corps, patience: Duration) -> Self {
        let asker = Arc::new(asker);
        let kinds: &[Ticket] = match asker.kind {
            Kind::Wechat => &[Ticket::Jsapi, Ticket::Card, Ticket::Sdk],
            Kind::Wecom => &[Ticket::Corp, Ticket::Agent],
        };
        let of = |ticket: &Ticket| match ticket {
            Ticket::Corp => corps.of(&asker, patience),
            Ticket::Jsapi | Ticket::Card | Ticket::Sdk | Ticket::Agent => {
                Arc::new(Of::new(*ticket, &asker, patience))
            }
        };
        let kept = kinds.iter().map(|ticket| (*ticket, of(ticket))).collect();
        Self { asker, kept }
    }

    /// The ticket that a call to `path` asks for, if that is kept here. `types` are the values of the
    /// call's parameter `type`.
    pub fn wanted(&self, path: &[u8], types: impl Iterator<Item = String>) -> Option<Ticket> {
        wanted(self.asker.kind, path, types)
    }

    /// Whether `ticket` is in hand, so that nobody has to wait for it.
    pub fn holds(&self, ticket: Ticket) -> bool {
        let held = self.of(ticket).and_then(|of| of.keeper.in_hand());
        held.is_some_and(|held| held.is_fresh())
    }

    /// The ticket itself. Waits only when there is none.
    pub async fn get(&self, ticket: Ticket) -> Result<Arc<Token>, NoToken> {
        let of = self.of(ticket).ok_or(NoToken {
            error: IssueError::Broken,
            retry_after: Duration::ZERO,
        })?;
        let held = of.keeper.in_hand().filter(|ticket| ticket.is_alive());
        if held.is_none() {
            // Before a lease is taken, and other replicas wait.
            self.asker.keeper.token().await.map_err(without_token)?;
        }
        // Of several accounts of a corp, the one that is called is alive.
        of.asker.store(self.asker.clone());
        of.keeper.renew_if_due();
        let got = of.keeper.token().await;
        let has_token = || {
            let token = self.asker.keeper.in_hand();
            token.is_some_and(|token| token.is_alive())
        };
        match &got {
            // There was no token to ask with, but now there is.
            Err(none) if matches!(none.error, IssueError::WithoutToken(_)) && has_token() => {
                of.keeper.try_again();
                of.keeper.token().await
            }
            _ => got,
        }
    }

    /// What each ticket's keeper shows, of those that were ever asked for.
    pub fn status(&self) -> impl Iterator<Item = (Ticket, keeper::Status)> {
        let status = |(ticket, of): &(Ticket, Arc<Of>)| (*ticket, of.keeper.status());
        self.kept
            .iter()
            .map(status)
            .filter(|(_, status)| status.tried)
    }

    fn of(&self, ticket: Ticket) -> Option<&Arc<Of>> {
        let of = self.kept.iter().find(|(kept, _)| *kept == ticket);
        of.map(|(_, of)| of)
    }
}

fn without_token(none: NoToken) -> NoToken {
    NoToken {
        error: IssueError::WithoutToken(Box::new(none.error)),
        retry_after: none.retry_after,
    }
}

fn wanted(kind: Kind, path: &[u8], mut types: impl Iterator<Item = String>) -> Option<Ticket> {
    let mut only = || types.next().filter(|_| types.next().is_none());
    let wanted = match (kind, path) {
        (Kind::Wechat, b"/cgi-bin/ticket/getticket") => match only()?.as_str() {
            "jsapi" => Ticket::Jsapi,
            "wx_card" => Ticket::Card,
            "2" => Ticket::Sdk,
            _ => return None,
        },
        (Kind::Wecom, b"/cgi-bin/get_jsapi_ticket") => Ticket::Corp,
        (Kind::Wecom, b"/cgi-bin/ticket/get") if only()? == "agent_config" => Ticket::Agent,
        _ => return None,
    };
    Some(wanted)
}

/// How many seconds an app is told that `ticket` is good for: three quarters of what is left as far as
/// we know, for it may be older than we know.
pub fn expires_in(ticket: &Token) -> u64 {
    (ticket.remaining().as_secs() * 3 / 4).max(1)
}

impl Corps {
    fn of(&self, asker: &Arc<Asker>, patience: Duration) -> Arc<Of> {
        let mut corps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        corps.retain(|_, of| of.strong_count() > 0);
        // One that has the same corpid elsewhere is another.
        let key = format!("{} {}", asker.appid, asker.reach.hosts());
        if let Some(of) = corps.get(&key).and_then(Weak::upgrade) {
            return of;
        }
        let of = Arc::new(Of::new(Ticket::Corp, asker, patience));
        corps.insert(key, Arc::downgrade(&of));
        of
    }
}

impl Of {
    fn new(ticket: Ticket, asker: &Arc<Asker>, patience: Duration) -> Self {
        let options = keeper::Options {
            renewal: Renewal::Halfway,
            second_thoughts: false,
            // No refusal causes a fetch of a ticket.
            daily_fetches: u32::MAX,
            patience,
        };
        let metrics = asker.metrics.clone();
        let asker = Arc::new(ArcSwap::new(asker.clone()));
        let issuer = TicketIssuer {
            ticket,
            asker: asker.clone(),
        };
        Self {
            keeper: Keeper::new(issuer, options, metrics),
            asker,
        }
    }
}

/// Asks WeChat for one ticket.
#[derive(Debug)]
pub struct TicketIssuer {
    ticket: Ticket,
    /// Who asked last.
    asker: Arc<ArcSwap<Asker>>,
}

impl Issue for TicketIssuer {
    async fn issue(&self, wanted: Wanted) -> Result<Issued, IssueError> {
        let asker = self.asker.load_full();
        let before = wanted.instead_of;
        let body = asker.ask(self.ticket, before.is_some()).await?;
        let token = understand(asker.kind, &body, before.as_deref())?;
        let fetched = true;
        Ok(Issued { token, fetched })
    }

    fn kept(&self) -> Kept {
        Kept::Ticket
    }
}

impl Asker {
    /// WeChat's answer; where it refuses the token, the one to another token. `worked`: it had been
    /// accepted before.
    async fn ask(&self, ticket: Ticket, worked: bool) -> Result<Vec<u8>, IssueError> {
        let token = self.keeper.token().await;
        let token = token.map_err(|none| without_token(none).error)?;
        let first = self.send(ticket, &token).await?;
        if !self.refuses(&first, &token) {
            return Ok(first);
        }
        let Ok(second) = self.keeper.second(&token).await else {
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

    async fn send(&self, ticket: Ticket, token: &Token) -> Result<Vec<u8>, IssueError> {
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
fn understand(kind: Kind, body: &[u8], before: Option<&Token>) -> Result<Token, IssueError> {
    let reply: Option<Value> = serde_json::from_slice(body).ok();
    let field = |name: &str| reply.as_ref()?.get(name);
    if let Some(code) = errcode::errcode(body).filter(|code| *code != 0) {
        let message = field("errmsg").and_then(Value::as_str);
        let message = message.unwrap_or("no errmsg").chars();
        return Err(IssueError::Refused {
            code,
            message: message.filter(|c| !c.is_control()).take(300).collect(),
            meaning: meaning(kind, code),
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
            Err(IssueError::Nonsense(problem))
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
fn meaning(kind: Kind, code: i64) -> Meaning {
    match code {
        -1 | 40001 | 40014 | 42001 => Meaning::Busy,
        45009 if kind == Kind::Wechat => Meaning::DailyQuota,
        45009 | 45011 | 45033 => Meaning::MinuteQuota,
        40164 | 60020 | 61004 => Meaning::NotWhitelisted,
        _ => Meaning::Unknown,
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl fmt::Debug for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Of").finish_non_exhaustive()
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Asker");
        shown.field("appid", &self.appid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
