//! A budget for bodies: how many bytes the whole process may hold at once.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes shared by all calls, as long as the process lives. Nobody waits for room: it is there or
/// it is not.
#[derive(Debug)]
pub struct ByteBudget {
    limit: usize,
    held: AtomicUsize,
}

/// Some of the [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: &'static ByteBudget,
    bytes: usize,
}

impl ByteBudget {
    /// Room for `limit` bytes.
    pub fn new(limit: usize) -> &'static Self {
        let held = AtomicUsize::new(0);
        Box::leak(Box::new(Self { limit, held }))
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Room for `bytes`, if there is any.
    pub fn reserve(&'static self, bytes: usize) -> Option<Reservation> {
        // Not `then_some`: a room that was never taken must not be given back.
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
    /// Takes `bytes` more, if they are there.
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
