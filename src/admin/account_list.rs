//! The accounts that a page shows: those that were asked for, with those in trouble first, one page of them at a time.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{account::Account, metrics::AccountTotals, token::keeper::TokenPresence};

/// How many accounts a page shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize {
    /// Unless a number is asked for.
    pub(super) usual: usize,
    /// At most.
    pub(super) most: usize,
    /// Whether the order is that of the configuration where one page shows all.
    pub(super) keeps_order: bool,
}

/// Which accounts are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ListQuery {
    /// One account alone: its AppID or its name.
    pub(super) account: Option<String>,
    /// A part of an AppID or a name, in lower case.
    search: String,
    page: Option<usize>,
    per: Option<usize>,
    /// The first account shown, counted from 0, for those who do not ask for a page.
    from: usize,
}

/// A page of accounts.
#[derive(Debug)]
pub(super) struct AccountList<'a> {
    /// The accounts on this page.
    pub(super) shown: Vec<&'a Arc<Account>>,
    totals: AccountTotals,
    found: usize,
    from: usize,
    per: usize,
}

impl ListQuery {
    /// Reads the query of a request. What it does not know is ignored.
    pub(super) fn of(query: Option<&str>) -> Self {
        let mut asked = Self::default();
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            match pair.split_once('=') {
                Some(("account", id)) => asked.account = Some(id.to_owned()),
                Some(("page", text)) => asked.page = number(text),
                Some(("per", text)) => asked.per = number(text),
                Some(("from", text)) => asked.from = text.parse().unwrap_or_default(),
                Some(("search", text)) => {
                    let text = text.replace('+', " ");
                    let text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
                    asked.search = text.trim().to_lowercase();
                }
                _ => {}
            }
        }
        asked
    }

    fn matches(&self, account: &Account) -> bool {
        if let Some(id) = &self.account {
            return account.is_called(id);
        }
        let has = |text: &str| text.to_lowercase().contains(&self.search);
        self.search.is_empty()
            || has(&account.appid)
            || account.options.name.as_deref().is_some_and(has)
    }
}

/// Looks at each account, and finds those that are asked for.
#[derive(Debug)]
pub(super) struct ListSearch<'a, 'b> {
    query: &'b ListQuery,
    totals: AccountTotals,
    /// Each with whether it is in trouble.
    found: Vec<(&'a Arc<Account>, bool)>,
}

impl<'a, 'b> ListSearch<'a, 'b> {
    pub(super) fn new(query: &'b ListQuery) -> Self {
        Self {
            query,
            totals: AccountTotals::default(),
            found: Vec::new(),
        }
    }

    /// Looks at one more.
    pub(super) fn add(&mut self, account: &'a Arc<Account>) {
        let is_troubled = count(account, &mut self.totals);
        if self.query.matches(account) {
            self.found.push((account, is_troubled));
        }
    }

    /// The page that was asked for.
    pub(super) fn page(self, size: PageSize) -> AccountList<'a> {
        let Self {
            query,
            totals,
            mut found,
        } = self;
        let per = query.per.unwrap_or(size.usual).min(size.most);
        let from = query
            .page
            .map_or(query.from, |page| (page - 1).saturating_mul(per));
        let count = found.len();
        if count > per || !size.keeps_order {
            // The sort keeps the order of the configuration among equals.
            found.sort_by_key(|(_, is_troubled)| !is_troubled);
        }
        let shown = found.into_iter().skip(from).take(per);
        AccountList {
            shown: shown.map(|(account, _)| account).collect(),
            totals,
            found: count,
            from,
            per,
        }
    }
}

impl AccountList<'_> {
    /// What a document says of the page, and of all accounts.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let fields = [
            ("accounts_total", self.totals.all()),
            ("accounts_with_token", self.totals.usable),
            ("accounts_with_problems", self.totals.troubled),
            ("accounts_found", self.found),
            ("accounts_from", self.from),
            ("page", (self.from / self.per).saturating_add(1)),
            ("pages", self.found.div_ceil(self.per).max(1)),
        ];
        let fields = fields.into_iter();
        fields
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect()
    }
}

/// Counts the account in `totals`, and says whether an operator should look at it first.
pub(super) fn count(account: &Account, totals: &mut AccountTotals) -> bool {
    let presence = account.keeper.presence();
    let of_presence = match presence {
        TokenPresence::Usable => &mut totals.usable,
        TokenPresence::Pending => &mut totals.pending,
        TokenPresence::Missing => &mut totals.missing,
    };
    *of_presence += 1;
    let is_troubled =
        presence == TokenPresence::Missing || !account.metrics.problems.open_kinds().is_empty();
    totals.troubled += usize::from(is_troubled);
    is_troubled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_nonsense_in_it_ignored() {
        let query = ListQuery::of(Some("page=3&per=50&search=%E5%95%86+WX&x&from"));
        assert_eq!((query.page, query.per), (Some(3), Some(50)));
        assert_eq!((query.from, &*query.search), (0, "商 wx"));
        let nonsense = "from=-1&search&page=0&per=-5&page=x";
        assert_eq!(ListQuery::of(Some(nonsense)), ListQuery::default());
        assert_eq!(ListQuery::of(Some("from=20")).from, 20);
    }
}
