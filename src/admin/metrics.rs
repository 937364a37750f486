//! `/metrics`: all accounts, the first ones by themselves and the others together, or one alone.

use http::StatusCode;

use super::{Admin, account_in, account_list::count, let_others_run};
use crate::{
    account::Account,
    http_host::{HostReply, page, text},
    log::Log,
    metrics::{AccountGauges, AccountPage, AccountTotals, CONTENT_TYPE, Page, ProcessPage},
    token::keeper::TokenPresence,
};

impl Admin {
    /// The reply to a GET of it.
    pub(super) async fn metrics(&self, query: Option<&str>) -> HostReply {
        let Some(word) = account_in(query) else {
            return page(CONTENT_TYPE, self.all_metrics().await);
        };
        match self.account_named(Some(word)) {
            Ok(Some(account)) => {
                let shown = shown(&account);
                page(CONTENT_TYPE, Page::of_account(&self.metrics, shown).await)
            }
            Ok(None) => text(StatusCode::NOT_FOUND, "no such account"),
            Err((status, reason)) => text(status, &reason),
        }
    }

    /// The page of all accounts. Other tasks have their turn in between.
    async fn all_metrics(&self) -> String {
        let accounts = self.directory.all();
        let mut totals = AccountTotals::default();
        let (mut pages, mut others) = (Vec::new(), AccountGauges::default());
        for (at, account) in accounts.iter().enumerate() {
            count(account, &mut totals);
            match account.metrics.is_in_other() {
                true => others.merge(gauges_in_other(account)),
                false => pages.push(shown(account)),
            }
            let_others_run(at).await;
        }
        let sums = self.metrics.series.other().await;
        pages.extend(
            sums.as_ref()
                .map(|sums| AccountPage::of_others(sums, others)),
        );
        let process = ProcessPage {
            ready: self.readiness(None).is_ok(),
            held: self.budget.held(),
            log_lines_dropped: self.log.as_ref().map_or(0, Log::dropped_lines),
            accounts: totals,
        };
        Page::of(&self.metrics, process, &pages).await
    }
}

fn shown(account: &Account) -> AccountPage<'_> {
    let name = account.options.name.as_deref();
    AccountPage::of(&account.appid, name, &account.metrics, gauges(account))
}

fn gauges(account: &Account) -> AccountGauges {
    let token = account.keeper.in_hand();
    let remaining = token.as_ref().map(|token| token.remaining().as_secs_f64());
    let fetches = account.keeper.status().fetches;
    AccountGauges {
        token_age: token.map(|token| token.age().as_secs_f64()),
        token_expires: Some(remaining.unwrap_or_default()),
        fetches: Some((fetches, account.options.daily_fetches)),
        paced_waiting: account.pacing.as_ref().map(|pacing| pacing.waiting()),
        ..AccountGauges::of(&account.metrics)
    }
}

/// One whose token nobody has wanted yet must not look like one that has none.
fn gauges_in_other(account: &Account) -> AccountGauges {
    let mut gauges = gauges(account);
    if account.keeper.presence() == TokenPresence::Pending {
        gauges.token_expires = None;
    }
    gauges
}
