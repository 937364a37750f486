//! The transitions of a token's state, one function for each kind of event.

use tokio::time::Instant;

use super::{
    ASK_PAUSES, Action, Before, Confidence, DeadBecause, Evidence, LastFetch, ONLY_PATH, Refusal,
    RefusingPath, ReturnedToken, SEVERAL_CALLS, TokenState, WhichSend,
};

impl TokenState {
    fn evidence(&mut self) -> Option<&mut Evidence> {
        match &mut self.confidence {
            Confidence::Refused(evidence) | Confidence::Dead(evidence, _) => Some(evidence),
            _ => None,
        }
    }

    pub(super) fn fetch_begins(&mut self, now: Instant) {
        self.backoff.fetch(now);
        if let Some(evidence) = self.evidence() {
            evidence.fetch = LastFetch::InFlight;
            if evidence.before == Before::Accepted {
                evidence.before = Before::Issued;
            }
        }
    }

    pub(super) fn fetched(&mut self, fetched: ReturnedToken, now: Instant) {
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

    pub(super) fn failed(&mut self, account: bool) {
        if let Some(evidence) = self.evidence() {
            evidence.fetch = LastFetch::Failed { account };
        }
    }

    pub(super) fn accepted(&mut self, first: bool, now: Instant) {
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
    pub(super) fn note(&mut self, refusal: Refusal, send: WhichSend) -> Evidence {
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

    pub(super) fn refused(&mut self, refusal: Refusal, now: Instant) -> Action {
        if refusal.weak {
            return fetch_if(self.backoff.allows_weak(now));
        }
        self.note(refusal, WhichSend::First);
        let path_may_be_to_blame = refusal.suspect || (!refusal.worked && self.proven);
        if !path_may_be_to_blame && self.backoff.allows(now) {
            return Action::Fetch;
        }
        self.watch_or_pass(now)
    }

    /// The fetch in flight returned the refused token. It had begun before the refusal.
    pub(super) fn fetch_was_earlier(&mut self, refusal: Refusal, now: Instant) -> Action {
        if refusal.weak {
            return Action::Pass;
        }
        if self.backoff.allows(now) || self.backoff.follow_up(now) {
            return Action::Fetch;
        }
        self.watch_or_pass(now)
    }

    fn watch_or_pass(&self, now: Instant) -> Action {
        let hope = match self.confidence {
            Confidence::Dead(..) => return Action::Pass,
            Confidence::Accepted => true,
            Confidence::Refused(evidence) => evidence.before == Before::Accepted,
            _ => false,
        };
        match self.traits.spurious_refusals || (hope && self.backoff.has_hope(now)) {
            true => Action::Watch,
            false => Action::Pass,
        }
    }

    pub(super) fn nothing_accepted(&mut self, refusal: Refusal, now: Instant) -> Action {
        if refusal.weak {
            return Action::Pass;
        }
        let evidence = self.note(refusal, WhichSend::StillFirst);
        // If several calls were refused and none accepted, it is hardly the call.
        let several = evidence.has_two_paths() || evidence.calls >= SEVERAL_CALLS;
        let hope = evidence.before == Before::Accepted && self.backoff.has_hope(now);
        let allowed = self.backoff.allows(now);
        if allowed && (several || (refusal.worked && !refusal.suspect)) {
            return Action::Fetch;
        }
        if hope && !refusal.suspect {
            self.backoff.last_hope(now);
            return Action::Fetch;
        }
        fetch_if((hope || allowed) && self.backoff.weak_is_due(now))
    }

    /// The replay is practically never refused by chance.
    pub(super) fn refused_again(&mut self, refusal: Refusal, now: Instant) {
        if refusal.weak {
            return;
        }
        let evidence = self.note(refusal, WhichSend::Last);
        if evidence.before == Before::OnTrial {
            self.backoff.in_vain(now);
        } else {
            let was_accepted = evidence.before == Before::Accepted;
            // Once in a row of refusals.
            let worked = refusal.worked && evidence.for_good == 1;
            self.backoff.died(was_accepted, worked);
        }
        if let Some(evidence) = self.evidence()
            && evidence.before != Before::Adopted
        {
            evidence.before = Before::Issued;
        }
        self.ask(now);
    }

    /// From now on the keeper fetches by itself at intervals.
    pub(super) fn ask(&mut self, now: Instant) {
        let at = now + self.ask_pause;
        if let Some(evidence) = self.evidence() {
            evidence.ask_at.get_or_insert(at);
        }
    }

    /// Decides whether a refused token is dead.
    pub(super) fn judge(&mut self, now: Instant) {
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
