//! What differs with many accounts: the first ones get their tokens at the start, and probes ask about them.

use std::sync::Arc;

use super::{Account, Accounts};

/// How many accounts are first. More than so many are many.
pub const FIRST_ACCOUNTS: usize = 32;

impl Accounts {
    /// Whether there are many.
    pub fn are_many(&self) -> bool {
        self.iter().nth(FIRST_ACCOUNTS).is_some()
    }

    /// Has the tokens of the first accounts and of the default one fetched when they are due, and those of all others in
    /// turn.
    pub fn take_turns(&self) {
        let default = self.default_account();
        for (at, account) in self.iter().enumerate() {
            let is_default = default.is_some_and(|default| Arc::ptr_eq(default, account));
            let is_first = at < FIRST_ACCOUNTS || is_default;
            account.keeper.set_in_turn(!is_first);
        }
    }

    /// The accounts whose first token requests end before the sidecar has started: all of a few, the default one of
    /// many, or the first ones where none is the default.
    pub fn starting(&self) -> impl Iterator<Item = &Arc<Account>> {
        let default = self.default_account().filter(|_| self.are_many());
        let others = default.is_none().then(|| self.first());
        default.into_iter().chain(others.into_iter().flatten())
    }

    /// The first accounts.
    pub fn first(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.iter().take(FIRST_ACCOUNTS)
    }
}
