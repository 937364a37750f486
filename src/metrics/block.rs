//! Counters that every thread writes to in cells of its own, and that are summed when they are read.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use once_cell::race::OnceBox;

use crate::sparse::SparseArray;

/// How many cells are allocated together.
pub(super) const PART: usize = 32;

/// Counters that every thread writes to in cells of its own. Cells exist where something was counted.
#[derive(Debug)]
pub(super) struct Block {
    counters: usize,
    /// Whether all threads share the cells of one shard.
    shared: AtomicBool,
    shards: [OnceBox<Shard>; SHARDS],
}

/// The cells of one thread, or of a few.
type Shard = SparseArray<AtomicU64, PART>;

/// How many sets of cells there are.
const SHARDS: usize = 8;

/// The first threads have a set each. All others share the remaining sets, which is slower but correct.
const OWN: usize = 4;

impl Block {
    pub(super) fn new(counters: usize) -> Self {
        Self {
            counters,
            shared: AtomicBool::new(false),
            shards: Default::default(),
        }
    }

    /// From now on all threads share cells, which takes less memory, and is slower where several count at once.
    pub(super) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    pub(super) fn add(&self, at: usize) {
        self.add_many(at, 1);
    }

    pub(super) fn add_many(&self, at: usize, count: u64) {
        let shard = match self.shared.load(Ordering::Relaxed) {
            true => SHARDS - 1,
            false => shard(),
        };
        let cells = match self.shards[shard].get() {
            Some(cells) => cells,
            None => self.allocate(shard),
        };
        let cell = cells.at(at);
        if shard < OWN {
            cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        } else {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn sum(&self, at: usize) -> u64 {
        let shards = self.shards.iter().filter_map(OnceBox::get);
        let cells = shards.filter_map(|shard| shard.get(at));
        cells.map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    #[cold]
    fn allocate(&self, shard: usize) -> &Shard {
        self.shards[shard].get_or_init(|| Box::new(Shard::new(self.counters)))
    }

    /// Adds each counter to the one of `sums` at the same place.
    pub(super) fn add_to(&self, sums: &mut [u64]) {
        let shards = self.shards.iter().filter_map(OnceBox::get);
        for (at, cell) in shards.flat_map(SparseArray::used) {
            // The last part may be longer than what is counted.
            if let Some(sum) = sums.get_mut(at) {
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
    fn threads_count_apart_or_together_and_are_summed() {
        let block = Block::new(1);
        for sum in [400_000, 800_000] {
            std::thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(|| (0..20_000).for_each(|_| block.add(0)));
                }
            });
            assert_eq!(block.sum(0), sum);
            block.share();
        }
        let mut sums = [1];
        block.add_to(&mut sums);
        assert_eq!(sums, [800_001]);
    }
}
