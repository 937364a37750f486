//! `/accounts`: what is wrong, and each account's token. docs/metrics.md describes it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::task::yield_now;

use super::{
    Admin,
    account_list::{ListQuery, ListSearch, PageSize},
    let_others_run, problems,
};
use crate::{
    account::Account,
    http_host::{HostReply, page, text},
    metrics::Ticket,
    problems::Kind,
    token::{keeper, ticket::expires_in},
};

/// A thousand accounts in trouble take about 2 MB.
const SIZE: PageSize = PageSize {
    usual: 100,
    most: 1000,
    keeps_order: true,
};

impl Admin {
    /// The reply to a GET of it.
    pub(super) async fn accounts(&self, query: Option<&str>) -> HostReply {
        let query = ListQuery::of(query);
        if let Err((status, reason)) = self.account_named(query.account.as_deref()) {
            return text(status, &reason);
        }
        let accounts = self.directory.all();
        let default = accounts.default_account();
        let is_default = |account| default.is_some_and(|default| Arc::ptr_eq(default, account));
        let mut search = ListSearch::new(&query);
        for (at, account) in accounts.iter().enumerate() {
            search.add(account);
            let_others_run(at).await;
        }
        let list = search.page(SIZE);
        let (mut described, mut wrong) = (Vec::new(), Vec::new());
        for account in &list.shown {
            described.push(describe(account, is_default(account)));
            wrong.extend(problems::describe(account.problems()));
            yield_now().await;
        }
        wrong.extend(problems::describe(self.metrics.nobody.problems.open()));
        let mut status = json!({
            "problems": wrong,
            "accounts": described,
            "configuration": self.readings.describe(),
            "listen": self.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        if let Some(status) = status.as_object_mut() {
            status.extend(list.fields());
        }
        page("application/json", format!("{status}\n"))
    }
}

fn describe(account: &Account, is_default: bool) -> Value {
    let status = account.keeper.status();
    let token = status.token.filter(|token| token.is_alive());
    let tickets: Map<String, Value> = account.tickets.status().map(ticket).collect();
    json!({
        "appid": account.appid,
        "name": account.options.name,
        "kind": account.api.name(),
        "default": is_default,
        "has_token": token.is_some(),
        "token_age_seconds": token.as_ref().map(|token| token.age().as_secs()),
        "token_expires_seconds": token.as_ref().map(|token| token.remaining().as_secs()),
        "token_fetches_today": status.fetches,
        "token_refused": status.known_dead.map(|dead| dead.reason(|error| account.options.explain(error))),
        "tickets": tickets,
        "ip_not_on_whitelist": account.metrics.problems.uncured_cause(Kind::IpRejected),
        "store_answers": account.keeper.source().store_is_available(),
        "last_error": status.error.as_ref().map(|failure| account.options.explain(&failure.error)),
        "retry_in_seconds": status.error.as_ref().map(|error| error.retry_after.as_secs()),
    })
}

/// The status of a ticket that was asked for before.
pub(super) fn ticket((ticket, status): (Ticket, keeper::Status)) -> (String, Value) {
    let held = status.token.filter(|ticket| ticket.is_alive());
    let shown = json!({
        "expires_seconds": held.map(|ticket| expires_in(&ticket)),
        "last_error": status.error.map(|error| error.to_string()),
    });
    (ticket.label().to_owned(), shown)
}
