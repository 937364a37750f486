//! The counters of one account.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Duration;

use super::{
    Cause, Fetched, Handed, Kept, Outcome, Paced, Selection, Skipped, StoreEvent, Ticket, at,
    block::Block,
    errcodes::{Errcodes, OWN_REQUEST},
    history::{self, History, LastHour, Tally},
    kept::{fetches, tickets},
    latency,
    quotas::Quotas,
    recent_fetches::{RecentFetch, RecentFetches},
    series::SeriesPlace,
};
use crate::problems::{Notices, Problems};

/// Counters of one account, and its problems.
#[derive(Debug)]
pub struct AccountMetrics {
    /// Each counter is an offset into it.
    pub(super) cells: Block,
    pub(super) errcodes: Errcodes,
    recent_fetches: RecentFetches,
    history: Mutex<History>,
    /// Whether its series are its own.
    pub(super) place: SeriesPlace,
    /// What is known of its quotas of calls.
    pub quotas: Quotas,
    /// What is wrong.
    pub problems: Problems,
}

impl Default for AccountMetrics {
    fn default() -> Self {
        Self {
            cells: Block::new(at::END),
            errcodes: Errcodes::default(),
            recent_fetches: RecentFetches::default(),
            history: Mutex::default(),
            place: SeriesPlace::default(),
            quotas: Quotas::default(),
            problems: Problems::default(),
        }
    }
}

impl AccountMetrics {
    /// Those of the account with this id. `notices` tells the log of its problems.
    pub fn of(account: &str, notices: Arc<Notices>) -> Self {
        Self {
            problems: Problems::of(account).told_by(notices),
            ..Self::default()
        }
    }

    /// A call to the endpoint with label `slot` ended.
    pub fn call(&self, slot: usize, outcome: Outcome) {
        self.cells
            .add(at::CALLS + slot * Outcome::ALL.len() + outcome as usize);
        self.cells.add(at::ENDED + outcome as usize);
    }

    /// Whether a call to the endpoint with label `slot` got as far as WeChat.
    pub(super) fn has_called(&self, slot: usize) -> bool {
        let replied = [Outcome::Accepted, Outcome::Errcode, Outcome::Refused];
        let cell = |outcome: Outcome| at::CALLS + slot * Outcome::ALL.len() + outcome as usize;
        replied
            .iter()
            .any(|outcome| self.cells.sum(cell(*outcome)) > 0)
    }

    /// Counts a call whose account was selected.
    pub fn selected(&self, way: Selection) {
        self.cells.add(at::SELECTED + way as usize);
    }

    /// A request of our own, for a token or a ticket, was answered with `code`.
    pub fn errcode(&self, code: i64) {
        self.errcodes.add(OWN_REQUEST, code);
    }

    /// A call to the endpoint with label `slot` was answered with `code`.
    pub fn errcode_of_call(&self, slot: usize, code: i64) {
        self.errcodes.add(slot, code);
    }

    /// Counts a refusal of a token that the sidecar had put in.
    pub fn refusal(&self) {
        self.cells.add(at::REFUSALS);
    }

    /// Counts a replay that ended.
    pub fn replay(&self, outcome: Outcome) {
        self.cells.add(at::REPLAYS + outcome as usize);
    }

    /// Counts a refused call that was not replayed.
    pub fn skipped(&self, reason: Skipped) {
        self.cells.add(at::SKIPPED + reason as usize);
    }

    /// Counts a call above a rate of `pace`.
    pub fn paced(&self, what: Paced) {
        self.cells.add(at::PACED + what as usize);
    }

    /// Counts the time until the head of a reply arrived, or until the call was given up.
    pub fn latency(&self, after: Duration) {
        latency::observe(&self.cells, at::LATENCY, after);
    }

    /// Counts a fetch of a token or a ticket that ended.
    pub fn fetch(&self, kept: Kept, cause: Cause, fetched: Fetched) {
        self.cells.add(fetches(kept, cause, fetched));
        if kept == Kept::Token {
            self.recent_fetches.add(cause, fetched);
        }
    }

    /// The last fetches of a token, the newest first.
    pub fn recent_fetches(&self) -> Vec<RecentFetch> {
        self.recent_fetches.all()
    }

    /// Counts a call for a ticket that was answered here.
    pub fn ticket(&self, ticket: Ticket, handed: Handed) {
        self.cells.add(tickets(ticket, handed));
    }

    /// Counts a request for a forced refresh, which is ignored.
    pub fn forced(&self) {
        self.cells.add(at::FORCED);
    }

    /// Counts an event at the store.
    pub fn store(&self, event: StoreEvent) {
        self.cells.add(at::STORE + event as usize);
    }

    /// Counts a call whose body was not buffered.
    pub fn not_held(&self) {
        self.cells.add(at::NOT_HELD);
    }

    /// How often calls were sent once more, by their final outcome. Outcomes that did not occur are left out.
    pub fn replays(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let cells = Outcome::ALL
            .iter()
            .map(|outcome| (outcome.label(), at::REPLAYS + *outcome as usize));
        self.occurred(cells)
    }

    /// How often refused calls were not sent again, by the reason. Reasons that did not occur are left out.
    pub fn replays_skipped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let cells = Skipped::ALL
            .iter()
            .map(|reason| (reason.label(), at::SKIPPED + *reason as usize));
        self.occurred(cells)
    }

    fn occurred(
        &self,
        cells: impl Iterator<Item = (&'static str, usize)>,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = cells.map(|(label, cell)| (label, self.cells.sum(cell)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// Puts what was counted since the last time into the history, as of `minute`. To be called at the end of each
    /// minute at least.
    pub fn record(&self, minute: u64) {
        let tally = self.tally();
        self.history().record(minute, tally);
    }

    /// The last hour, up to and with `minute`.
    pub fn last_hour(&self, minute: u64) -> LastHour {
        let mut hour = history::empty_hour();
        self.add_last_hour(minute, &mut hour);
        hour
    }

    /// Adds the last hour, up to and with `minute`, to `hour`.
    pub fn add_last_hour(&self, minute: u64, hour: &mut LastHour) {
        self.record(minute);
        self.history().add_to(minute, hour);
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was counted since the start.
    fn tally(&self) -> Tally {
        let ended = |outcome: &Outcome| self.cells.sum(at::ENDED + *outcome as usize);
        let failed = Outcome::ALL.iter().filter(|outcome| outcome.is_failure());
        Tally {
            calls: Outcome::ALL.iter().map(ended).sum(),
            failed: failed.map(ended).sum(),
            with_errcode: ended(&Outcome::Errcode),
            latency: latency::counts(&self.cells, at::LATENCY),
            errcodes: self.errcodes.by_code(),
        }
    }
}
