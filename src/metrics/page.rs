//! The metrics page of a sidecar.

use std::{
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::task::yield_now;

use super::{
    AccountPage, BUCKETS, Cause, ENDPOINT_LABELS, Encoder, Family, Fetched, Handed, Kept, Metrics,
    Outcome, Paced, QuotaReading, Reload, Selection, Skipped, StoreEvent, Ticket, at,
    kept::{fetches, tickets},
    latency, process,
};

families! {
    "wechat_sidecar_";
    BUILD = "gauge" "build_info": "Always 1; the version and commit are labels.";
    READY = "gauge" "ready": "1 while /readyz answers 200.";
    ACCOUNTS = "gauge" "accounts": "Accounts, by whether they have a token: usable, pending (none was requested yet) or missing.";
    CALLS = "counter" "calls_total": "Calls, by account, endpoint and outcome. From --metrics-accounts on, accounts are summed as other, here and below.";
    SELECTED = "counter" "account_selections_total": "Calls, by account and by how it was known that they are its own.";
    ERRCODE = "counter" "errcodes_total": "Error codes in replies of at most 4 KiB, those to token requests included, by account and endpoint.";
    QUOTA_LIMIT = "gauge" "quota_daily_limit": "Calls that WeChat allows in a day, by account and endpoint, as it said when it was asked last (wechat-sidecar quota).";
    QUOTA_USED = "gauge" "quota_used": "Calls of the day by WeChat's own count, by account and endpoint, as it said when it was asked last. For other, as the two beside it, of the account with the least left.";
    QUOTA_READ = "gauge" "quota_read_timestamp_seconds": "When WeChat was asked last, as seconds since 1970.";
    PROBLEM = "gauge" "problem": "1 while a problem is open, by kind and account. For other, while any of these accounts has it.";
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
    AGE = "gauge" "token_age_seconds": "Time since the token in hand was brought. For other, of the oldest.";
    EXPIRY = "gauge" "token_expires_seconds": "Time until the token in hand expires; 0 without one. For other, of the first to expire of those requested.";
    FETCHED_AT = "gauge" "token_fetched_timestamp_seconds": "When the token in hand was fetched, as seconds since 1970; 0 without one. For other, of the oldest.";
    EXPIRES_AT = "gauge" "token_expires_timestamp_seconds": "When the token in hand expires, as seconds since 1970; 0 without one. For other, of the first to expire of those requested.";
    DAY_FETCHES = "gauge" "token_fetches_day": "Token requests of this process in the current 24 hours. For other, as the limit, of the account nearest to its limit.";
    DAY_LIMIT = "gauge" "token_fetches_day_limit": "From so many token requests in 24 hours on, refusals cause no more (--daily-fetches).";
    LATENCY = "histogram" "upstream_seconds": "Time from sending a call to the head of its reply, or until it was given up.";
    CONNECTS = "counter" "upstream_connects_total": "Attempts to connect to WeChat, for calls and for token requests, by outcome.";
    CONNECTIONS = "gauge" "connections": "Open connections, by side: app or upstream.";
    RELOADS = "counter" "config_reloads_total": "Readings of the configuration while running, by outcome: applied or rejected.";
    LOG_DROPPED = "counter" "log_lines_dropped_total": "Log lines that were dropped, since nobody read them in time, or could not be written.";
    HELD = "gauge" "held_bytes": "Memory of calls whose bodies are held so that they can be sent again.";
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
    /// How many accounts have a token.
    pub accounts: AccountTotals,
}

/// How many accounts there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountTotals {
    /// Those with a token that WeChat takes, as far as that is known.
    pub usable: usize,
    /// Those whose first token request has not ended.
    pub pending: usize,
    /// Those without such a token.
    pub missing: usize,
    /// Those that an operator should look at, for want of a token or for a problem.
    pub troubled: usize,
}

impl AccountTotals {
    /// All of them.
    pub fn all(&self) -> usize {
        self.usable + self.pending + self.missing
    }
}

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page(Encoder);

impl Page {
    /// The whole page for `metrics` and these accounts. Other tasks have their turn in between.
    pub async fn of(
        metrics: &Metrics,
        process: ProcessPage,
        accounts: &[AccountPage<'_>],
    ) -> String {
        let mut page = Self::default();
        page.0.family(&BUILD);
        let build = [("version", crate::VERSION), ("commit", crate::COMMIT)];
        page.0.sample(BUILD.name, &build, 1.0);
        page.0.single(&READY, f64::from(u8::from(process.ready)));
        page.totals(process.accounts);
        let nobody = AccountPage::of_nobody(&metrics.nobody);
        page.accounts(metrics, accounts, Some(&nobody)).await;
        page.process(metrics);
        page.0
            .single(&LOG_DROPPED, process.log_lines_dropped as f64);
        page.0.single(&HELD, process.held as f64);
        process::write(&mut page.0);
        page.0.finish()
    }

    /// The page for one account, without what is of the process.
    pub async fn of_account(metrics: &Metrics, account: AccountPage<'_>) -> String {
        let mut page = Self::default();
        page.accounts(metrics, &[account], None).await;
        page.0.finish()
    }

    fn totals(&mut self, totals: AccountTotals) {
        self.0.family(&ACCOUNTS);
        for (token, count) in [
            ("usable", totals.usable),
            ("pending", totals.pending),
            ("missing", totals.missing),
        ] {
            self.0
                .sample(ACCOUNTS.name, &[("token", token)], count as f64);
        }
    }

    /// Adds the families of accounts. Some of them have what was counted for nobody, too.
    async fn accounts(
        &mut self,
        metrics: &Metrics,
        accounts: &[AccountPage<'_>],
        nobody: Option<&AccountPage<'_>>,
    ) {
        self.calls(metrics, accounts, nobody).await;
        let cells = Selection::ALL.iter();
        let cells = cells.map(|way| (at::SELECTED + *way as usize, way.label()));
        self.labelled(&SELECTED, accounts, "way", cells).await;
        self.errcodes(metrics, accounts).await;
        self.quotas(accounts).await;
        self.problems(accounts, nobody).await;
        self.plain(&REFUSALS, accounts, at::REFUSALS).await;
        let cells = Outcome::ALL.iter();
        let cells = cells.map(|outcome| (at::REPLAYS + *outcome as usize, outcome.label()));
        self.labelled(&REPLAYS, accounts, "outcome", cells).await;
        let cells = Skipped::ALL.iter();
        let cells = cells.map(|reason| (at::SKIPPED + *reason as usize, reason.label()));
        self.labelled(&SKIPPED, accounts, "reason", cells).await;
        let cells = Paced::ALL.iter();
        let cells = cells.map(|what| (at::PACED + *what as usize, what.label()));
        self.labelled(&PACED, accounts, "outcome", cells).await;
        self.each(&PACED_WAITING, accounts, |account| {
            account.gauges.paced_waiting.map(f64::from)
        })
        .await;
        self.plain(&NOT_HELD, accounts, at::NOT_HELD).await;
        self.fetches(&FETCHES, Kept::Token, accounts).await;
        self.tickets(accounts).await;
        self.fetches(&TICKET_FETCHES, Kept::Ticket, accounts).await;
        self.plain(&FORCED, accounts, at::FORCED).await;
        let cells = StoreEvent::ALL.iter();
        let cells = cells.map(|event| (at::STORE + *event as usize, event.label()));
        self.labelled(&STORE, accounts, "event", cells).await;
        self.tokens(accounts).await;
    }

    async fn tokens(&mut self, accounts: &[AccountPage<'_>]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        self.each(&AGE, accounts, |account| account.token_age(|age| age))
            .await;
        self.each(&EXPIRY, accounts, |account| account.gauges.token_expires)
            .await;
        self.each(&FETCHED_AT, accounts, |account| {
            account.token_age(|age| now - age)
        })
        .await;
        self.each(&EXPIRES_AT, accounts, |account| {
            let left = account.gauges.token_expires?;
            Some(if left > 0.0 { now + left } else { 0.0 })
        })
        .await;
        let fetches = |of: fn((u32, u32)) -> u32| {
            move |account: &AccountPage<'_>| account.gauges.fetches.map(of).map(f64::from)
        };
        self.each(&DAY_FETCHES, accounts, fetches(|(day, _)| day))
            .await;
        self.each(&DAY_LIMIT, accounts, fetches(|(_, limit)| limit))
            .await;
    }

    /// Adds a family with one sample for each account that has one.
    async fn each(
        &mut self,
        family: &Family,
        accounts: &[AccountPage<'_>],
        value: impl Fn(&AccountPage<'_>) -> Option<f64>,
    ) {
        self.0.family(family);
        for account in accounts {
            if let Some(value) = value(account) {
                self.0.sample_of(family.name, &account.labels, &[], value);
            }
        }
        yield_now().await;
    }

    async fn calls(
        &mut self,
        metrics: &Metrics,
        accounts: &[AccountPage<'_>],
        nobody: Option<&AccountPage<'_>>,
    ) {
        self.0.family(&CALLS);
        let endpoints: Vec<_> = (0..=ENDPOINT_LABELS)
            .map(|slot| ("endpoint", metrics.labels.name(slot)))
            .collect();
        for account in accounts.iter().chain(nobody) {
            for (slot, endpoint) in endpoints.iter().enumerate() {
                for outcome in Outcome::ALL {
                    let cell = at::CALLS + slot * Outcome::ALL.len() + *outcome as usize;
                    let labels = [*endpoint, ("outcome", outcome.label())];
                    self.counted(&CALLS, account, &labels, cell);
                }
            }
            yield_now().await;
        }
    }

    async fn errcodes(&mut self, metrics: &Metrics, accounts: &[AccountPage<'_>]) {
        self.0.family(&ERRCODE);
        for account in accounts {
            for ((slot, code), count) in account.counts.errcodes() {
                let code = code.map_or("other".to_owned(), |code| code.to_string());
                let labels = [
                    ("endpoint", metrics.labels.name(slot)),
                    ("errcode", code.as_str()),
                ];
                self.0
                    .sample_of(ERRCODE.name, &account.labels, &labels, count as f64);
            }
        }
        yield_now().await;
    }

    async fn quotas(&mut self, accounts: &[AccountPage<'_>]) {
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
                for (endpoint, (reading, at)) in &account.gauges.quotas {
                    if let Some(value) = value(*reading, now - at.elapsed().as_secs_f64()) {
                        let labels = [("endpoint", *endpoint)];
                        self.0
                            .sample_of(family.name, &account.labels, &labels, value);
                    }
                }
            }
            yield_now().await;
        }
    }

    async fn problems(&mut self, accounts: &[AccountPage<'_>], nobody: Option<&AccountPage<'_>>) {
        self.0.family(&PROBLEM);
        for account in accounts.iter().chain(nobody) {
            for kind in &account.gauges.problems {
                let labels = [("kind", kind.label())];
                self.0
                    .sample_of(PROBLEM.name, &account.labels, &labels, 1.0);
            }
        }
        yield_now().await;
    }

    async fn fetches(&mut self, family: &Family, kept: Kept, accounts: &[AccountPage<'_>]) {
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
        yield_now().await;
    }

    async fn tickets(&mut self, accounts: &[AccountPage<'_>]) {
        self.0.family(&TICKETS);
        for account in accounts {
            for ticket in Ticket::ALL {
                for handed in Handed::ALL {
                    let labels = [("type", ticket.label()), ("outcome", handed.label())];
                    self.counted(&TICKETS, account, &labels, tickets(*ticket, *handed));
                }
            }
        }
        yield_now().await;
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

    async fn plain(&mut self, family: &Family, accounts: &[AccountPage<'_>], cell: usize) {
        self.each(family, accounts, |account| {
            Some(account.counts.cell(cell) as f64)
        })
        .await;
    }

    /// Adds a family with one more label than the account's. The values are in these cells.
    async fn labelled<'a>(
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
        yield_now().await;
    }

    /// Adds a sample with more labels than the account's, unless it is 0.
    fn counted(
        &mut self,
        family: &Family,
        account: &AccountPage<'_>,
        labels: &[(&str, &str)],
        cell: usize,
    ) {
        let value = account.counts.cell(cell);
        if value > 0 {
            self.0
                .sample_of(family.name, &account.labels, labels, value as f64);
        }
    }
}
