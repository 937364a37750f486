//! A budget for the bytes of bodies that the process holds at once.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that all calls share, as long as the process lives. No call waits for bytes: a reservation
/// succeeds or fails at once.
#[derive(Debug)]
pub struct ByteBudget {
    limit: usize,
    held: AtomicUsize,
}

/// A part of the [`ByteBudget`], returned when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: &'static ByteBudget,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> &'static Self {
        let held = AtomicUsize::new(0);
        Box::leak(Box::new(Self { limit, held }))
    }

    /// How many bytes may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`, if they are available.
    pub fn reserve(&'static self, bytes: usize) -> Option<Reservation> {
        // Not `then_some`, which would create, and drop, a reservation even if this failed.
        self.take(bytes).then(|| Reservation {
            budget: self,
            bytes,
        })
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

impl Reservation {
    /// Reserves `bytes` more, if they are available.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_given_back() {
        let budget = ByteBudget::new(10);
        let mut first = budget.reserve(6).unwrap();
        assert!(budget.reserve(5).is_none());
        assert!(first.grow(4) && !first.grow(1));
        assert!(budget.reserve(usize::MAX).is_none());
        assert_eq!(budget.held(), 10);
        drop(first);
        assert_eq!(budget.held(), 0);
    }
}
