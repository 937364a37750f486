//! Error codes of WeChat's by endpoint. Only those that occur take memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::ENDPOINT_LABELS;

/// The slot of requests of the sidecar's own, for tokens and tickets, beside those of endpoints.
pub(super) const OWN_REQUEST: usize = ENDPOINT_LABELS + 1;

/// The error codes that get a label of their own; the rest is `other`. It is sorted.
const ERRCODES: [i64; 33] = [
    -1, 40001, 40003, 40007, 40013, 40014, 40029, 40097, 40125, 40163, 40164, 40243, 41001, 42001,
    43002, 43004, 43101, 45009, 45011, 45015, 45033, 45047, 47001, 48001, 48002, 48004, 50002,
    60011, 60020, 61004, 61007, 301002, 301042,
];

/// How often each code was answered at each endpoint. The lock is taken only when WeChat answers an error.
#[derive(Debug, Default)]
pub(super) struct Errcodes(Mutex<BTreeMap<(usize, Option<i64>), u64>>);

impl Errcodes {
    pub(super) fn add(&self, slot: usize, code: i64) {
        let code = ERRCODES.contains(&code).then_some(code);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((slot, code)).or_default() += 1;
    }

    /// How often each code was answered at all endpoints, and in requests of the sidecar's own. `None` is the rest.
    pub(super) fn by_code(&self) -> BTreeMap<Option<i64>, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = BTreeMap::new();
        for ((_, code), count) in counts.iter() {
            *sums.entry(*code).or_default() += count;
        }
        sums
    }

    /// The counts of all that occurred, by slot and code.
    pub(super) fn all(&self) -> BTreeMap<(usize, Option<i64>), u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds all that occurred to `sums`.
    pub(super) fn add_to(&self, sums: &mut BTreeMap<(usize, Option<i64>), u64>) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, count) in counts.iter() {
            *sums.entry(*what).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::codes;

    #[test]
    fn only_codes_that_occur_take_memory_and_unknown_ones_share_a_label() {
        let errcodes = Errcodes::default();
        for code in 100_000..110_000 {
            errcodes.add(3, code);
        }
        errcodes.add(3, 45009);
        errcodes.add(OWN_REQUEST, 40164);
        let mut all = BTreeMap::from([
            ((3, None), 10_000),
            ((3, Some(45009)), 1),
            ((OWN_REQUEST, Some(40164)), 1),
        ]);
        assert_eq!(errcodes.all(), all);
        errcodes.add_to(&mut all);
        assert_eq!(all[&(3, None)], 20_000);
        assert!(ERRCODES.is_sorted());
    }

    #[test]
    fn each_code_with_a_label_is_explained() {
        for code in ERRCODES {
            assert!(codes::meanings(code).next().is_some(), "{code}");
        }
    }
}
