//! Counters that every thread writes to in cells of its own, and that are summed when they are read.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Counters that every thread writes to in cells of its own.
#[derive(Debug)]
pub(super) struct Block {
    cells: Box<[Box<[AtomicU64]>]>,
}

/// How many sets of cells there are.
const SHARDS: usize = 8;

/// The first threads have a set each. All others share the remaining sets, which is slower but correct.
const OWN: usize = 4;

impl Block {
    pub(super) fn new(counters: usize) -> Self {
        let shard = || (0..counters).map(|_| AtomicU64::new(0)).collect();
        let cells = (0..SHARDS).map(|_| shard()).collect();
        Self { cells }
    }

    pub(super) fn add(&self, at: usize) {
        self.add_many(at, 1);
    }

    pub(super) fn add_many(&self, at: usize, count: u64) {
        let shard = shard();
        let cell = &self.cells[shard][at];
        if shard < OWN {
            cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        } else {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn sum(&self, at: usize) -> u64 {
        let cells = self.cells.iter();
        cells.map(|shard| shard[at].load(Ordering::Relaxed)).sum()
    }

    /// Adds each counter to the one of `sums` at the same place.
    pub(super) fn add_to(&self, sums: &mut [u64]) {
        for shard in &self.cells {
            for (sum, cell) in sums.iter_mut().zip(shard) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
    }
}

/// The shard of this thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: Cell<usize> = const { Cell::new(usize::MAX) });
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            let at = NEXT.fetch_add(1, Ordering::Relaxed);
            let shared = OWN + at % (SHARDS - OWN);
            shard.set(if at < OWN { at } else { shared });
        }
        shard.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_apart_and_are_summed() {
        let block = Block::new(1);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..20_000).for_each(|_| block.add(0)));
            }
        });
        assert_eq!(block.sum(0), 400_000);
        let mut sums = [1];
        block.add_to(&mut sums);
        assert_eq!(sums, [400_001]);
    }
}
