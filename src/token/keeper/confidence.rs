//! What a keeper believes of the token in hand, as a state machine: `(state, event, now) → (state, action)`.
//!
//! | state | meaning | a call is accepted | a call is refused | a fetch returns the same token | another one | it fails |
//! |---|---|---|---|---|---|---|
//! | `Issued` | WeChat returned it, and no call was answered since | `Accepted` | `Refused` | `Issued` | `OnTrial` | stays |
//! | `Adopted` | something else put it in place, and no call was answered since | `Accepted` | `Refused` | `Issued` | `OnTrial` | stays |
//! | `OnTrial` | it replaced a refused token, and no call was answered since | `Accepted` | `Refused` | `Issued` | `OnTrial` | stays |
//! | `Accepted` | WeChat accepted a call since the last fetch | stays | `Refused` | `Issued` | `OnTrial` | stays |
//! | `Refused` | WeChat refused a call, and accepted none since | `Accepted` | stays, or `Dead` | stays | `OnTrial` | stays, or `Dead` |
//! | `Dead` | WeChat refuses every call, and no other token can be had | `Accepted` | stays | `Refused` | `OnTrial` | stays |
//!
//! The columns are for a fetch that a refusal caused. Another token that a renewal returns is `Issued`, and one that
//! something else puts in place is `Adopted`.
//!
//! A refused call asks for an action: `Fetch` another token, `Watch` whether other calls are accepted meanwhile, or
//! `Pass` the refusal on. Some calls are refused whatever the token: those of an endpoint that this account may not
//! call, or of a caller with a mistake. So a call whose endpoint never worked, or has a history of refusals
//! ([`Refusal::suspect`]), causes a fetch only if no other call is accepted for a while.
//!
//! A token is `Dead` when there is evidence enough, and no other can be had: the fetch failed, the day's fetches are
//! used up, or WeChat returned the same token again. Enough are refusals of two endpoints, or three of one that
//! worked before. Then the keeper fetches by itself, at growing intervals, so that no call is needed to recover.
//!
//! The limits of fetches are in [`RefreshBackoff`].

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::{Duration, Instant};

use super::backoff::RefreshBackoff;

/// The hash of an endpoint's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathId(u64);

impl PathId {
    /// The id of `path`.
    pub fn of(path: &[u8]) -> Self {
        let mut hash = DefaultHasher::new();
        path.hash(&mut hash);
        Self(hash.finish())
    }

    /// The id with this hash.
    pub const fn from_hash(hash: u64) -> Self {
        Self(hash)
    }
}

/// A call that WeChat refused, as evidence against its token.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// Its endpoint.
    pub path: PathId,
    /// Whether this endpoint has accepted a call before, with any token.
    pub worked: bool,
    /// Whether this endpoint has refused a call before that was not the token's fault. Then a fetch needs more
    /// evidence: no call with the token is accepted for a while.
    pub suspect: bool,
    /// Whether the call itself is most likely to blame. It causes at most one fetch a minute.
    pub weak: bool,
}

/// What a keeper believes of the token in hand. See the table in the text of the [module](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Confidence {
    /// WeChat returned it, and no call was answered since.
    Issued,
    /// Something else put it in place, and no call was answered since.
    Adopted,
    /// It replaced a refused token, and no call was answered since.
    OnTrial,
    /// WeChat accepted a call with it since the last fetch.
    Accepted,
    /// WeChat refused a call with it, and accepted none since.
    Refused(Evidence),
    /// WeChat refuses every call with it, and no other token can be had.
    Dead(Evidence, DeadBecause),
}

/// Why there is no replacement of a dead token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadBecause {
    /// The fetch failed.
    FetchFailed,
    /// The day's fetches are used up.
    CeilingReached,
    /// WeChat returned the same token again.
    ReturnedAgain,
}

/// The refusals since a token was last accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Two different endpoints that refused it.
    paths: [Option<RefusingPath>; 2],
    /// How many calls were refused, and how many of them for good: their replay was refused, or made no sense.
    calls: u32,
    for_good: u32,
    /// The state before the first refusal, or since the last fetch.
    before: Before,
    fetch: LastFetch,
    /// When the keeper fetches by itself.
    ask_at: Option<Instant>,
}

/// An endpoint that refused the token.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RefusingPath {
    path: PathId,
    worked: bool,
    /// Whether it refused a call for good.
    for_good: bool,
}

/// The state before the first refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Issued,
    Adopted,
    OnTrial,
    Accepted,
}

/// Which send of a call was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhichSend {
    /// The first.
    First,
    /// The first, which is counted already.
    StillFirst,
    /// The replay, or the first send of a call that is not replayed.
    Last,
}

/// The last fetch since the first refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastFetch {
    /// There was none.
    None,
    InFlight,
    /// It failed. `account` says that the account's secret, IP or state is the cause.
    Failed {
        account: bool,
    },
    /// It returned the same token.
    Same,
}

/// What happens to a token.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A fetch begins, whatever its cause.
    FetchBegins,
    /// The fetch did not ask WeChat after all.
    FetchSpared,
    /// A fetch returned a token.
    Fetched(ReturnedToken),
    /// A fetch failed, or the pause after a failed one has not ended. `account` says that the account's secret, IP or
    /// state is the cause.
    FetchFailed {
        /// See above.
        account: bool,
    },
    /// A call with the token in hand was accepted. `first` says that it was the first with this token.
    Accepted {
        /// See above.
        first: bool,
    },
    /// The first send of a call was refused with the token in hand.
    Refused(Refusal),
    /// No call was accepted while a refused call watched for that.
    NothingAccepted(Refusal),
    /// A fetch that had begun before the refusal returned the refused token.
    FetchWasEarlier,
    /// The replay of a call was refused with the token in hand, too.
    RefusedAgain(Refusal),
    /// A fetch returned the refused token, and the call is not replayed with it.
    NotReplayed(Refusal),
}

/// A token that a fetch returned.
#[derive(Clone, Copy, Debug)]
pub struct ReturnedToken {
    /// Whether it is the token that was in hand.
    pub same: bool,
    /// Whether WeChat was asked; otherwise something else had put the token in place.
    pub by_wechat: bool,
    /// Whether a refusal caused the fetch.
    pub after_refusal: bool,
}

/// What to do about a refused call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch another token.
    Fetch,
    /// Wait whether other calls are accepted, and report [`Event::NothingAccepted`] otherwise.
    Watch,
    /// No fetch.
    Pass,
}

/// The state of a token: the confidence in it, and what is left of the limits.
#[derive(Clone, Debug)]
pub struct TokenState {
    /// What is believed of the token in hand.
    confidence: Confidence,
    /// Whether the token in hand was ever accepted.
    proven: bool,
    /// The limits of fetches that refusals cause.
    pub(super) backoff: RefreshBackoff,
    /// The pause before the next fetch of the keeper's own.
    ask_pause: Duration,
    traits: TokenTraits,
}

/// What is special about the tokens of an API.
#[derive(Clone, Copy, Debug)]
pub struct TokenTraits {
    /// A fetch revokes the token in hand (the classic API). Then the keeper fetches by itself only when that is dead.
    pub fetch_revokes: bool,
    /// Valid tokens are refused now and then, so that a replay with the same token makes sense.
    pub spurious_refusals: bool,
}

/// The first and the longest pause between two fetches of the keeper's own while its token is refused.
const ASK_PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// So many refusals of one endpoint that worked are refusals of every call, if no other endpoint is in use.
const ONLY_PATH: u32 = 3;

impl TokenState {
    /// The state without a token.
    pub fn new(traits: TokenTraits, daily_fetches: u32, now: Instant) -> Self {
        Self {
            confidence: Confidence::Issued,
            proven: false,
            backoff: RefreshBackoff::new(daily_fetches, now),
            ask_pause: ASK_PAUSES.0,
            traits,
        }
    }

    /// The same state with other limits.
    pub fn with_limits(self, traits: TokenTraits, daily_fetches: u32) -> Self {
        Self {
            backoff: self.backoff.with_ceiling(daily_fetches),
            traits,
            ..self
        }
    }

    /// The transition function. It reads no clock and draws no random number.
    pub fn step(mut self, event: Event, now: Instant) -> (Self, Action) {
        let mut action = Action::Pass;
        match event {
            Event::FetchBegins => self.fetch_begins(now),
            Event::FetchSpared => self.backoff.refund(),
            Event::Fetched(fetched) => self.fetched(fetched, now),
            Event::FetchFailed { account } => self.failed(account),
            Event::Accepted { first } => self.accepted(first, now),
            Event::Refused(refusal) => action = self.refused(refusal, now),
            Event::NothingAccepted(refusal) => action = self.nothing_accepted(refusal, now),
            Event::FetchWasEarlier => {
                let allowed = self.backoff.allows(now) || self.backoff.follow_up(now);
                action = fetch_if(allowed);
            }
            Event::RefusedAgain(refusal) => self.refused_again(refusal, now),
            Event::NotReplayed(refusal) => {
                self.note(refusal, WhichSend::Last);
                self.ask(now);
            }
        }
        self.judge(now);
        (self, action)
    }

    /// When the keeper is to fetch by itself because the token is refused; `None` where that is left to the renewal.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let (evidence, dead) = match self.confidence {
            Confidence::Refused(evidence) => (evidence, false),
            Confidence::Dead(evidence, _) => (evidence, true),
            _ => return None,
        };
        let at = evidence
            .ask_at
            .filter(|_| dead || !self.traits.fetch_revokes)?;
        Some(at.max(self.backoff.next_fetch_at(now)))
    }

    /// What is believed of the token in hand.
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// Fetches in the current 24 hours, and when those end if the limit is reached.
    pub fn fetches(&self) -> u32 {
        self.backoff.fetches()
    }

    /// Until when refusals cause no more fetches, because the day's are used up.
    pub fn ceiling_until(&self, now: Instant) -> Option<Instant> {
        let until = self.backoff.next_fetch_at(now);
        (until > now).then_some(until)
    }

    /// Whether the token was put in place by something else, and no call was accepted since.
    pub fn is_adopted(&self) -> bool {
        match self.confidence {
            Confidence::Adopted => true,
            Confidence::Refused(evidence) | Confidence::Dead(evidence, _) => {
                evidence.before == Before::Adopted
            }
            Confidence::Issued | Confidence::OnTrial | Confidence::Accepted => false,
        }
    }

    /// Whether WeChat refused a call, and accepted none since.
    pub fn is_refused(&self) -> bool {
        matches!(
            self.confidence,
            Confidence::Refused(_) | Confidence::Dead(..)
        )
    }

    /// Why the token is known to be dead, if it is.
    pub fn dead(&self) -> Option<DeadBecause> {
        match self.confidence {
            Confidence::Dead(_, because) => Some(because),
            _ => None,
        }
    }

    fn evidence(&mut self) -> Option<&mut Evidence> {
        match &mut self.confidence {
            Confidence::Refused(evidence) | Confidence::Dead(evidence, _) => Some(evidence),
            _ => None,
        }
    }

    fn fetch_begins(&mut self, now: Instant) {
        self.backoff.fetch(now);
        if let Some(evidence) = self.evidence() {
            evidence.fetch = LastFetch::InFlight;
            if evidence.before == Before::Accepted {
                evidence.before = Before::Issued;
            }
        }
    }

    fn fetched(&mut self, fetched: ReturnedToken, now: Instant) {
        let ReturnedToken {
            same,
            by_wechat,
            after_refusal,
        } = fetched;
        if after_refusal && same {
            self.backoff.in_vain(now);
        }
        self.proven &= same;
        if self
            .evidence()
            .is_some_and(|evidence| evidence.ask_at.is_some())
        {
            self.ask_pause = (self.ask_pause * 2).min(ASK_PAUSES.1);
        }
        let ask_at = now + self.ask_pause;
        let returned_again = |evidence: Evidence| Evidence {
            fetch: LastFetch::Same,
            before: match by_wechat {
                true if evidence.before == Before::Adopted => Before::Issued,
                _ => evidence.before,
            },
            ask_at: evidence.ask_at.map(|_| ask_at),
            ..evidence
        };
        self.confidence = match self.confidence {
            Confidence::Refused(evidence) if same => Confidence::Refused(returned_again(evidence)),
            // Without the old evidence it is in use again: calls show whether it works now.
            Confidence::Dead(evidence, _) if same => Confidence::Refused(Evidence {
                paths: [None; 2],
                calls: 0,
                for_good: 0,
                ..returned_again(evidence)
            }),
            _ if !by_wechat => Confidence::Adopted,
            Confidence::Dead(..) => Confidence::OnTrial,
            _ if after_refusal && !same => Confidence::OnTrial,
            _ => Confidence::Issued,
        };
    }

    fn failed(&mut self, account: bool) {
        if let Some(evidence) = self.evidence() {
            evidence.fetch = LastFetch::Failed { account };
        }
    }

    fn accepted(&mut self, first: bool, now: Instant) {
        // One that failed its trial and works all the same was refused because of the call.
        let free = match self.confidence {
            Confidence::Refused(evidence) | Confidence::Dead(evidence, _) => {
                evidence.before == Before::OnTrial
            }
            Confidence::Issued | Confidence::Adopted | Confidence::OnTrial => true,
            Confidence::Accepted => false,
        };
        self.backoff.accepted(first && free, now);
        self.confidence = Confidence::Accepted;
        self.proven = true;
        self.ask_pause = ASK_PAUSES.0;
    }

    /// Adds a refusal to the evidence, and returns it.
    fn note(&mut self, refusal: Refusal, send: WhichSend) -> Evidence {
        let before = match self.confidence {
            Confidence::Issued => Before::Issued,
            Confidence::Adopted => Before::Adopted,
            Confidence::OnTrial => Before::OnTrial,
            Confidence::Accepted => Before::Accepted,
            Confidence::Refused(evidence) | Confidence::Dead(evidence, _) => evidence.before,
        };
        let evidence = match &mut self.confidence {
            Confidence::Refused(evidence) | Confidence::Dead(evidence, _) => evidence,
            other => {
                *other = Confidence::Refused(Evidence::new(before));
                return self.note(refusal, send);
            }
        };
        evidence.add(refusal, send);
        *evidence
    }

    fn refused(&mut self, refusal: Refusal, now: Instant) -> Action {
        if refusal.weak {
            return fetch_if(self.backoff.allows_weak(now));
        }
        let evidence = self.note(refusal, WhichSend::First);
        let path_may_be_to_blame =
            refusal.suspect || (!refusal.worked && evidence.before == Before::Accepted);
        if !path_may_be_to_blame && self.backoff.allows(now) {
            return Action::Fetch;
        }
        let hope = evidence.before == Before::Accepted && self.backoff.has_hope(now);
        match self.confidence {
            Confidence::Dead(..) => Action::Pass,
            _ if self.traits.spurious_refusals || hope => Action::Watch,
            _ => Action::Pass,
        }
    }

    fn nothing_accepted(&mut self, refusal: Refusal, now: Instant) -> Action {
        if refusal.weak {
            return Action::Pass;
        }
        let evidence = self.note(refusal, WhichSend::StillFirst);
        let hope = evidence.before == Before::Accepted && self.backoff.last_hope(now);
        let every_call = refusal.worked || evidence.has_two_paths();
        fetch_if(hope || (every_call && self.backoff.allows(now)))
    }

    /// The replay is practically never refused by chance.
    fn refused_again(&mut self, refusal: Refusal, now: Instant) {
        if refusal.weak {
            return;
        }
        let evidence = self.note(refusal, WhichSend::Last);
        if evidence.before == Before::OnTrial {
            self.backoff.in_vain(now);
        } else {
            let was_accepted = evidence.before == Before::Accepted;
            self.backoff.died(was_accepted, refusal.worked);
        }
        if let Some(evidence) = self.evidence()
            && evidence.before != Before::Adopted
        {
            evidence.before = Before::Issued;
        }
        self.ask(now);
    }

    /// From now on the keeper fetches by itself at intervals.
    fn ask(&mut self, now: Instant) {
        let at = now + self.ask_pause;
        if let Some(evidence) = self.evidence() {
            evidence.ask_at.get_or_insert(at);
        }
    }

    /// Decides whether a refused token is dead.
    fn judge(&mut self, now: Instant) {
        if let Confidence::Refused(evidence) = self.confidence
            && let Some(because) = self.dead_because(&evidence, now)
        {
            self.confidence = Confidence::Dead(evidence, because);
            self.ask(now);
        }
    }

    fn dead_because(&self, evidence: &Evidence, now: Instant) -> Option<DeadBecause> {
        // An endpoint that never worked says little of a token that was accepted elsewhere.
        let counts = |path: &&RefusingPath| path.worked || !self.proven;
        let paths = || evidence.paths.iter().flatten();
        let seen = paths().count();
        let is_only =
            |calls: u32| seen == 1 && calls >= ONLY_PATH && paths().any(|path| counts(&path));
        let for_good = paths().filter(counts).filter(|path| path.for_good).count() == 2;
        match evidence.fetch {
            LastFetch::InFlight => None,
            LastFetch::Failed { account } => {
                let counted = paths().filter(counts).count() == 2 && evidence.calls >= ONLY_PATH;
                let all = (account && seen == 2) || counted || is_only(evidence.calls);
                all.then_some(DeadBecause::FetchFailed)
            }
            LastFetch::Same if for_good => Some(DeadBecause::ReturnedAgain),
            LastFetch::None | LastFetch::Same => {
                let all = for_good || is_only(evidence.for_good);
                let ceiling = all && !self.backoff.is_below_ceiling(now);
                ceiling.then_some(DeadBecause::CeilingReached)
            }
        }
    }
}

fn fetch_if(allowed: bool) -> Action {
    match allowed {
        true => Action::Fetch,
        false => Action::Pass,
    }
}

impl Evidence {
    fn new(before: Before) -> Self {
        Self {
            paths: [None; 2],
            calls: 0,
            for_good: 0,
            before,
            fetch: LastFetch::None,
            ask_at: None,
        }
    }

    fn add(&mut self, refusal: Refusal, send: WhichSend) {
        let for_good = send == WhichSend::Last;
        self.calls = self
            .calls
            .saturating_add(u32::from(send == WhichSend::First));
        self.for_good = self.for_good.saturating_add(u32::from(for_good));
        let Refusal { path, worked, .. } = refusal;
        let new = RefusingPath {
            path,
            worked,
            for_good,
        };
        if let Some(known) = self
            .paths
            .iter_mut()
            .flatten()
            .find(|seen| seen.path == path)
        {
            known.for_good |= for_good;
            return;
        }
        match &mut self.paths {
            [first @ None, _] => *first = Some(new),
            [_, second @ None] => *second = Some(new),
            // One that worked says more than one that never did.
            [Some(first), _] if worked && !first.worked => *first = new,
            [_, Some(second)] if worked && !second.worked => *second = new,
            _ => {}
        }
    }

    fn has_two_paths(&self) -> bool {
        self.paths.iter().flatten().count() == 2
    }
}

#[cfg(test)]
mod tests;
