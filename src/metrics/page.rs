//! The metrics page of a sidecar.

use std::{
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    AccountMetrics, BUCKETS, Cause, ENDPOINT_LABELS, Encoder, Family, Fetched, Handed, Kept,
    Metrics, Outcome, Paced, QuotaReading, Reload, Selection, Skipped, StoreEvent, Ticket, at,
    kept::{fetches, tickets},
    latency, process,
};

families! {
    "wechat_sidecar_";
    BUILD = "gauge" "build_info": "Always 1; the version and commit are labels.";
    READY = "gauge" "ready": "1 while /readyz answers 200.";
    CALLS = "counter" "calls_total": "Calls, by account, endpoint and outcome.";
    SELECTED = "counter" "account_selections_total": "Calls, by account and by how it was known that they are its own.";
    ERRCODE = "counter" "errcodes_total": "Error codes in replies of at most 4 KiB, those to token requests included, by account and endpoint.";
    QUOTA_LIMIT = "gauge" "quota_daily_limit": "Calls that WeChat allows in a day, by account and endpoint, as it said when it was asked last (wechat-sidecar quota).";
    QUOTA_USED = "gauge" "quota_used": "Calls of the day by WeChat's own count, by account and endpoint, as it said when it was asked last.";
    QUOTA_READ = "gauge" "quota_read_timestamp_seconds": "When WeChat was asked last, as seconds since 1970.";
    PROBLEM = "gauge" "problem": "1 while a problem is open, by kind and account.";
    REFUSALS = "counter" "refusals_total": "Replies that refused the token put in, by account.";
    REPLAYS = "counter" "replays_total": "Calls sent once more, by account and final outcome.";
    SKIPPED = "counter" "replays_skipped_total": "Refused calls not sent again, by account and reason.";
    PACED = "counter" "paced_calls_total": "Calls above a rate of pace, by account and by whether they waited or were turned down.";
    PACED_WAITING = "gauge" "paced_waiting": "Calls that wait for their turn by a rate of pace, by account.";
    NOT_HELD = "counter" "bodies_not_held_total": "Bodies too large, or without room, to be held for a replay.";
    FETCHES = "counter" "token_fetches_total": "Token requests, by account, cause and outcome.";
    TICKETS = "counter" "tickets_total": "Calls for tickets answered here, by account, type and whether a ticket was held, was waited for, or failed to come.";
    TICKET_FETCHES = "counter" "ticket_fetches_total": "Ticket requests, by account, cause and outcome.";
    FORCED = "counter" "force_refresh_ignored_total": "Forced refreshes that apps asked for and did not get.";
    STORE = "counter" "store_events_total": "What happened at the store of shared tokens, by account and event.";
    AGE = "gauge" "token_age_seconds": "Time since the token in hand was brought.";
    EXPIRY = "gauge" "token_expires_seconds": "Time until the token in hand expires; 0 without one.";
    FETCHED_AT = "gauge" "token_fetched_timestamp_seconds": "When the token in hand was fetched, as seconds since 1970; 0 without one.";
    EXPIRES_AT = "gauge" "token_expires_timestamp_seconds": "When the token in hand expires, as seconds since 1970; 0 without one.";
    DAY_FETCHES = "gauge" "token_fetches_day": "Token requests of this process in the current 24 hours.";
    DAY_LIMIT = "gauge" "token_fetches_day_limit": "From so many token requests in 24 hours on, refusals cause no more (--daily-fetches).";
    LATENCY = "histogram" "upstream_seconds": "Time from sending a call to the head of its reply, or until it was given up.";
    CONNECTS = "counter" "upstream_connects_total": "Attempts to connect to WeChat, for calls and for token requests, by outcome.";
    CONNECTIONS = "gauge" "connections": "Open connections, by side: app or upstream.";
    RELOADS = "counter" "config_reloads_total": "Readings of the configuration while running, by outcome: applied or rejected.";
    LOG_DROPPED = "counter" "log_lines_dropped_total": "Log lines that were dropped, since nobody read them in time, or could not be written.";
    HELD = "gauge" "held_bytes": "Memory of calls whose bodies are held so that they can be sent again.";
}

/// The metrics of one account.
#[derive(Debug)]
pub struct AccountPage<'a> {
    /// Its AppID.
    pub appid: &'a str,
    /// Its name, if it has one.
    pub name: Option<&'a str>,
    /// Its counters.
    pub metrics: &'a AccountMetrics,
    /// The token in hand.
    pub token: Option<TokenPage>,
    /// Token requests in the current 24 hours, and the limit from which on refusals cause no more.
    pub fetches: (u32, u32),
    /// Calls that wait for their turn; `None` if it has no rates.
    pub paced_waiting: Option<u32>,
}

/// The times of a token, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct TokenPage {
    /// Since it was fetched.
    pub age: f64,
    /// Until it expires.
    pub remaining: f64,
}

impl<'a> AccountPage<'a> {
    /// What the process counts of no account's.
    fn of_nobody(metrics: &'a Metrics) -> Self {
        Self {
            appid: "",
            name: None,
            metrics: &metrics.nobody,
            token: None,
            fetches: (0, 0),
            paced_waiting: None,
        }
    }

    fn labels(&self) -> Vec<(&str, &str)> {
        let name = self.name.map(|name| ("name", name));
        [("account", self.appid)].into_iter().chain(name).collect()
    }
}

/// The metrics of the process beside its counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessPage {
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Bytes of buffered bodies.
    pub held: usize,
    /// Dropped lines of the log.
    pub log_lines_dropped: u64,
}

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page(Encoder);

impl Page {
    /// The whole page for `metrics` and all accounts.
    pub fn of(metrics: &Metrics, process: ProcessPage, accounts: &[AccountPage<'_>]) -> String {
        let mut page = Self::default();
        page.0.family(&BUILD);
        let build = [("version", crate::VERSION), ("commit", crate::COMMIT)];
        page.0.sample(BUILD.name, &build, 1.0);
        page.0.single(&READY, f64::from(u8::from(process.ready)));
        page.accounts(metrics, accounts);
        page.process(metrics);
        page.0
            .single(&LOG_DROPPED, process.log_lines_dropped as f64);
        page.0.single(&HELD, process.held as f64);
        process::write(&mut page.0);
        page.0.finish()
    }

    fn accounts(&mut self, metrics: &Metrics, accounts: &[AccountPage<'_>]) {
        self.calls(metrics, accounts);
        let cells = Selection::ALL.iter();
        let cells = cells.map(|way| (at::SELECTED + *way as usize, way.label()));
        self.labelled(&SELECTED, accounts, "way", cells);
        self.errcodes(metrics, accounts);
        self.quotas(accounts);
        self.problems(metrics, accounts);
        self.plain(&REFUSALS, accounts, at::REFUSALS);
        let cells = Outcome::ALL.iter();
        let cells = cells.map(|outcome| (at::REPLAYS + *outcome as usize, outcome.label()));
        self.labelled(&REPLAYS, accounts, "outcome", cells);
        let cells = Skipped::ALL.iter();
        let cells = cells.map(|reason| (at::SKIPPED + *reason as usize, reason.label()));
        self.labelled(&SKIPPED, accounts, "reason", cells);
        let cells = Paced::ALL.iter();
        let cells = cells.map(|what| (at::PACED + *what as usize, what.label()));
        self.labelled(&PACED, accounts, "outcome", cells);
        self.0.family(&PACED_WAITING);
        for account in accounts {
            if let Some(waiting) = account.paced_waiting {
                let labels = account.labels();
                self.0.sample(PACED_WAITING.name, &labels, waiting.into());
            }
        }
        self.plain(&NOT_HELD, accounts, at::NOT_HELD);
        self.fetches(&FETCHES, Kept::Token, accounts);
        self.tickets(accounts);
        self.fetches(&TICKET_FETCHES, Kept::Ticket, accounts);
        self.plain(&FORCED, accounts, at::FORCED);
        let cells = StoreEvent::ALL.iter();
        let cells = cells.map(|event| (at::STORE + *event as usize, event.label()));
        self.labelled(&STORE, accounts, "event", cells);
        self.tokens(accounts);
    }

    fn tokens(&mut self, accounts: &[AccountPage<'_>]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        let of_token = |value: fn(TokenPage, f64) -> f64| {
            move |account: &AccountPage<'_>| account.token.map_or(0.0, |token| value(token, now))
        };
        self.each(&AGE, accounts, of_token(|token, _| token.age));
        self.each(&EXPIRY, accounts, of_token(|token, _| token.remaining));
        self.each(
            &FETCHED_AT,
            accounts,
            of_token(|token, now| now - token.age),
        );
        self.each(
            &EXPIRES_AT,
            accounts,
            of_token(|token, now| now + token.remaining),
        );
        self.each(&DAY_FETCHES, accounts, |account| account.fetches.0.into());
        self.each(&DAY_LIMIT, accounts, |account| account.fetches.1.into());
    }

    /// Adds a family with one sample for each account.
    fn each(
        &mut self,
        family: &Family,
        accounts: &[AccountPage<'_>],
        value: impl Fn(&AccountPage<'_>) -> f64,
    ) {
        self.0.family(family);
        for account in accounts {
            self.0
                .sample(family.name, &account.labels(), value(account));
        }
    }

    fn calls(&mut self, metrics: &Metrics, accounts: &[AccountPage<'_>]) {
        self.0.family(&CALLS);
        for account in accounts.iter().chain([&AccountPage::of_nobody(metrics)]) {
            for slot in 0..=ENDPOINT_LABELS {
                let endpoint = ("endpoint", metrics.labels.name(slot));
                for outcome in Outcome::ALL {
                    let cell = at::CALLS + slot * Outcome::ALL.len() + *outcome as usize;
                    let labels = [endpoint, ("outcome", outcome.label())];
                    self.counted(&CALLS, account, &labels, cell);
                }
            }
        }
    }

    fn errcodes(&mut self, metrics: &Metrics, accounts: &[AccountPage<'_>]) {
        self.0.family(&ERRCODE);
        for account in accounts {
            for (slot, code, count) in account.metrics.errcodes.all() {
                let endpoint = ("endpoint", metrics.labels.name(slot));
                let mut labels = account.labels();
                labels.extend([endpoint, ("errcode", &code)]);
                self.0.sample(ERRCODE.name, &labels, count as f64);
            }
        }
    }

    fn quotas(&mut self, accounts: &[AccountPage<'_>]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        type Value = fn(QuotaReading, f64) -> Option<f64>;
        let families: [(&Family, Value); 3] = [
            (&QUOTA_LIMIT, |reading, _| {
                reading.daily_limit.map(|n| n as f64)
            }),
            (&QUOTA_USED, |reading, _| reading.used.map(|n| n as f64)),
            (&QUOTA_READ, |_, read_at| Some(read_at)),
        ];
        for (family, value) in families {
            self.0.family(family);
            for account in accounts {
                for quota in account.metrics.quotas.all() {
                    let read = quota.reading;
                    let read = read
                        .and_then(|(reading, at)| value(reading, now - at.elapsed().as_secs_f64()));
                    if let Some(value) = read {
                        let mut labels = account.labels();
                        labels.push(("endpoint", quota.endpoint));
                        self.0.sample(family.name, &labels, value);
                    }
                }
            }
        }
    }

    fn problems(&mut self, metrics: &Metrics, accounts: &[AccountPage<'_>]) {
        self.0.family(&PROBLEM);
        for account in accounts.iter().chain([&AccountPage::of_nobody(metrics)]) {
            for kind in account.metrics.problems.open_kinds() {
                let mut labels = account.labels();
                labels.push(("kind", kind.label()));
                self.0.sample(PROBLEM.name, &labels, 1.0);
            }
        }
    }

    fn fetches(&mut self, family: &Family, kept: Kept, accounts: &[AccountPage<'_>]) {
        self.0.family(family);
        for account in accounts {
            for cause in Cause::ALL {
                for fetched in Fetched::ALL {
                    let cell = fetches(kept, *cause, *fetched);
                    let labels = [("cause", cause.label()), ("outcome", fetched.label())];
                    self.counted(family, account, &labels, cell);
                }
            }
        }
    }

    fn tickets(&mut self, accounts: &[AccountPage<'_>]) {
        self.0.family(&TICKETS);
        for account in accounts {
            for ticket in Ticket::ALL {
                for handed in Handed::ALL {
                    let labels = [("type", ticket.label()), ("outcome", handed.label())];
                    self.counted(&TICKETS, account, &labels, tickets(*ticket, *handed));
                }
            }
        }
    }

    fn process(&mut self, metrics: &Metrics) {
        let cells = &metrics.latency;
        let (counts, sum) = (latency::counts(cells, 0), latency::sum(cells, 0));
        self.0.histogram(&LATENCY, &BUCKETS, counts, sum);
        self.0.family(&CONNECTS);
        for (at, outcome) in ["failed", "made"].into_iter().enumerate() {
            let value = metrics.connects.sum(at) as f64;
            self.0.sample(CONNECTS.name, &[("outcome", outcome)], value);
        }
        self.0.family(&CONNECTIONS);
        for (side, gauge) in [
            ("app", &metrics.app_connections),
            ("upstream", &metrics.upstream_connections),
        ] {
            let value = gauge.load(Ordering::Relaxed) as f64;
            self.0.sample(CONNECTIONS.name, &[("side", side)], value);
        }
        self.0.family(&RELOADS);
        for outcome in Reload::ALL {
            let value = metrics.reloads.sum(*outcome as usize) as f64;
            let labels = [("outcome", outcome.label())];
            self.0.sample(RELOADS.name, &labels, value);
        }
    }

    fn plain(&mut self, family: &Family, accounts: &[AccountPage<'_>], cell: usize) {
        self.each(family, accounts, |account| {
            account.metrics.cells.sum(cell) as f64
        });
    }

    /// Adds a family with one more label than the account's. The values are in these cells.
    fn labelled<'a>(
        &mut self,
        family: &Family,
        accounts: &[AccountPage<'_>],
        key: &str,
        cells: impl Iterator<Item = (usize, &'a str)> + Clone,
    ) {
        self.0.family(family);
        for account in accounts {
            for (cell, value) in cells.clone() {
                self.counted(family, account, &[(key, value)], cell);
            }
        }
    }

    /// Adds a sample with more labels than the account's, unless it is 0.
    fn counted(
        &mut self,
        family: &Family,
        account: &AccountPage<'_>,
        labels: &[(&str, &str)],
        cell: usize,
    ) {
        let value = account.metrics.cells.sum(cell);
        if value > 0 {
            let mut all = account.labels();
            all.extend_from_slice(labels);
            self.0.sample(family.name, &all, value as f64);
        }
    }
}
