//! Finds the account of a token by its fingerprint, so that old tokens need not be stored.

use std::{
    collections::VecDeque,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::time::{Duration, Instant};

use crate::secret::Secret;

/// How long a replaced token is remembered. No token of WeChat's lives longer.
const RETENTION: Duration = Duration::from_secs(7200);

/// The most tokens of one account. Two hours usually see two of them. Beyond the limit, the oldest is dropped.
const MAX_TOKENS: usize = 16;

/// How many lists hold the fingerprints. A change copies one of them.
const LISTS: usize = 64;

/// The fingerprints of all accounts' tokens. Clones share them.
#[derive(Clone, Default)]
pub struct Fingerprints(Arc<Index>);

struct Index {
    /// A random key of this process. So nobody can search for two tokens with the same fingerprint, and a
    /// fingerprint reveals nothing without the key.
    key: RandomState,
    /// Each is sorted by fingerprint, and is replaced as a whole, so that a call takes no lock.
    lists: [ArcSwap<Vec<Entry>>; LISTS],
    histories: AtomicU64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            key: RandomState::default(),
            lists: std::array::from_fn(|_| ArcSwap::default()),
            histories: AtomicU64::new(0),
        }
    }
}

/// A token of one account.
#[derive(Clone, Copy)]
struct Entry {
    fingerprint: u128,
    history: HistoryId,
    /// When it was replaced; `None` while it is the current token.
    replaced_at: Option<Instant>,
}

/// The id of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HistoryId(u64);

/// The current and past tokens of one account. They are forgotten when it is dropped.
pub struct TokenHistory {
    all: Fingerprints,
    id: HistoryId,
    /// Its fingerprints and when each was replaced, the current one last.
    own: Mutex<VecDeque<(u128, Option<Instant>)>>,
}

impl Fingerprints {
    /// Creates a history without tokens.
    pub fn history(&self) -> TokenHistory {
        let id = self.0.histories.fetch_add(1, Ordering::Relaxed);
        TokenHistory {
            all: self.clone(),
            id: HistoryId(id),
            own: Mutex::new(VecDeque::with_capacity(1)),
        }
    }

    /// The histories that contain `token`: one, unless several accounts take their tokens from the same source.
    pub fn find(&self, token: &str) -> Vec<HistoryId> {
        let (fingerprint, now) = (self.of(token), Instant::now());
        let entries = self.list(fingerprint).load();
        let start = entries.partition_point(|entry| entry.fingerprint < fingerprint);
        let same = entries[start..]
            .iter()
            .take_while(|entry| entry.fingerprint == fingerprint);
        same.filter(|entry| entry.is_known(now))
            .map(|entry| entry.history)
            .collect()
    }

    /// A fingerprint of 128 bits, because a collision would select the wrong account. SipHash of two different
    /// inputs under one key is as good as two hashes.
    fn of(&self, token: &str) -> u128 {
        let half = |half: u8| u128::from(self.0.key.hash_one((half, token)));
        (half(0) << 64) | half(1)
    }

    fn list(&self, fingerprint: u128) -> &ArcSwap<Vec<Entry>> {
        &self.0.lists[fingerprint as usize % LISTS]
    }

    /// Adds `entry`, or changes it. On the way, entries of its list that are too old go.
    fn put(&self, entry: Entry, now: Instant) {
        self.list(entry.fingerprint).rcu(|entries| {
            let others = entries.iter().filter(|other| !other.is(&entry));
            let mut entries: Vec<Entry> = others
                .filter(|other| other.is_known(now))
                .copied()
                .collect();
            let at = entries.partition_point(|other| other.fingerprint < entry.fingerprint);
            entries.insert(at, entry);
            entries
        });
    }

    fn remove(&self, entry: Entry) {
        self.list(entry.fingerprint).rcu(|entries| {
            let others = entries.iter().filter(|other| !other.is(&entry));
            others.copied().collect::<Vec<Entry>>()
        });
    }
}

impl Entry {
    /// Whether both are the same token of the same account.
    fn is(&self, other: &Self) -> bool {
        (self.fingerprint, self.history) == (other.fingerprint, other.history)
    }

    fn is_known(&self, now: Instant) -> bool {
        is_known(self.replaced_at, now)
    }
}

impl TokenHistory {
    /// Its id.
    pub fn id(&self) -> HistoryId {
        self.id
    }

    /// Makes `token` the current one.
    pub fn put(&self, token: &Secret) {
        let (fingerprint, now) = (self.all.of(token.expose()), Instant::now());
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.back().is_some_and(|(last, _)| *last == fingerprint) {
            return;
        }
        self.all.put(self.entry(fingerprint, None), now);
        if let Some((last, replaced_at)) = own.back_mut() {
            *replaced_at = Some(now);
            self.all.put(self.entry(*last, Some(now)), now);
        }
        own.retain(|(known, replaced_at)| {
            // It may be the one that comes back.
            let stays = *known != fingerprint && is_known(*replaced_at, now);
            if *known != fingerprint && !stays {
                self.all.remove(self.entry(*known, None));
            }
            stays
        });
        if own.len() >= MAX_TOKENS
            && let Some((oldest, _)) = own.pop_front()
        {
            self.all.remove(self.entry(oldest, None));
        }
        own.push_back((fingerprint, None));
    }

    fn entry(&self, fingerprint: u128, replaced_at: Option<Instant>) -> Entry {
        let history = self.id;
        Entry {
            fingerprint,
            history,
            replaced_at,
        }
    }
}

/// Whether a token that was replaced then is still known.
fn is_known(replaced_at: Option<Instant>, now: Instant) -> bool {
    replaced_at.is_none_or(|at| now.saturating_duration_since(at) < RETENTION)
}

impl Drop for TokenHistory {
    fn drop(&mut self) {
        let own = std::mem::take(self.own.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (fingerprint, _) in own {
            self.all.remove(self.entry(fingerprint, None));
        }
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprints").finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenHistory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    impl Fingerprints {
        fn len(&self) -> usize {
            self.0.lists.iter().map(|list| list.load().len()).sum()
        }
    }

    fn put(history: &TokenHistory, token: &str) {
        history.put(&Secret::new(token));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_known_while_it_is_in_hand_and_for_two_hours_after() {
        let all = Fingerprints::default();
        let (one, two) = (all.history(), all.history());
        put(&one, "first");
        put(&two, "other");
        advance(RETENTION * 3).await;
        assert_eq!(all.find("first"), [one.id()]);
        put(&one, "second");
        advance(RETENTION - Duration::from_secs(1)).await;
        // It was replaced once, though others come.
        put(&one, "third");
        assert_eq!(all.find("first"), [one.id()]);
        advance(Duration::from_secs(1)).await;
        assert!(all.find("first").is_empty() && all.find("fourth").is_empty());
        for (token, of) in [("second", &one), ("third", &one), ("other", &two)] {
            assert_eq!(all.find(token), [of.id()], "{token}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_comes_back_is_in_hand_again() {
        let all = Fingerprints::default();
        let history = all.history();
        for token in ["first", "second", "first", "first"] {
            put(&history, token);
        }
        advance(RETENTION).await;
        assert_eq!(all.find("first"), [history.id()]);
        assert!(all.find("second").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_has_a_bounded_number_of_them_and_the_oldest_goes() {
        let all = Fingerprints::default();
        let (many, one) = (all.history(), all.history());
        put(&one, "other");
        for token in 0..1000 {
            put(&many, &token.to_string());
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(all.len(), MAX_TOKENS + 1);
        assert_eq!(all.find("other"), [one.id()]);
        for token in 1000 - MAX_TOKENS..1000 {
            assert_eq!(all.find(&token.to_string()), [many.id()], "{token}");
        }
        advance(RETENTION).await;
        // What is too old goes with the account's next token, or with another in the same list.
        put(&many, "another");
        put(&one, "another");
        assert_eq!(all.len(), 4);
    }

    #[tokio::test]
    async fn a_history_takes_its_tokens_along_and_leaves_those_of_others() {
        let all = Fingerprints::default();
        let (one, two) = (all.history(), all.history());
        put(&one, "shared");
        put(&two, "shared");
        put(&one, "its own");
        let mut both = all.find("shared");
        both.sort_by_key(|id| id.0);
        assert_eq!(both, [one.id(), two.id()]);
        drop(one);
        assert_eq!(all.find("shared"), [two.id()]);
        assert!(all.find("its own").is_empty());
        drop(two);
        assert_eq!(all.len(), 0);
    }

    #[test]
    fn no_two_processes_have_the_same_fingerprint_of_a_token() {
        let (one, other) = (Fingerprints::default(), Fingerprints::default());
        assert_ne!(one.of("token"), other.of("token"));
        let halves = one.of("token");
        assert_ne!((halves >> 64) as u64, halves as u64);
    }
}
