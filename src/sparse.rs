//! An array whose parts are allocated when they are first used, so that ten thousand accounts with hundreds of counters
//! each take little memory.

use once_cell::race::OnceBox;

/// `len` values that begin as their default, in parts of `N`. Readers and writers take no lock.
#[derive(Debug)]
pub struct SparseArray<T, const N: usize> {
    parts: Box<[OnceBox<[T; N]>]>,
}

impl<T: Default, const N: usize> SparseArray<T, N> {
    /// Nothing is allocated yet but a pointer for each part.
    pub fn new(len: usize) -> Self {
        let parts = (0..len.div_ceil(N)).map(|_| OnceBox::new()).collect();
        Self { parts }
    }

    /// The value at `at`, which is allocated if it is not yet.
    ///
    /// # Panics
    ///
    /// If `at` is beyond the length.
    #[inline]
    pub fn at(&self, at: usize) -> &T {
        let part = &self.parts[at / N];
        let part = match part.get() {
            Some(part) => part,
            None => allocate(part),
        };
        &part[at % N]
    }

    /// The values of the parts that were used, each with its place.
    pub fn used(&self) -> impl Iterator<Item = (usize, &T)> {
        let parts = self.parts.iter().enumerate();
        let used = parts.filter_map(|(at, part)| Some((at * N, part.get()?)));
        used.flat_map(|(first, part)| (first..).zip(part))
    }

    /// The value at `at`, unless nobody has used its part.
    pub fn get(&self, at: usize) -> Option<&T> {
        let part = self.parts[at / N].get()?;
        Some(&part[at % N])
    }
}

/// Several threads may get here at once: the first one's part stays.
#[cold]
fn allocate<T: Default, const N: usize>(part: &OnceBox<[T; N]>) -> &[T; N] {
    part.get_or_init(|| Box::new(std::array::from_fn(|_| T::default())))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn only_parts_that_were_used_exist_and_threads_share_them() {
        let array = SparseArray::<AtomicU64, 4>::new(10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        array.at(9).fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let value = |at| array.get(at).map(|cell| cell.load(Ordering::Relaxed));
        assert_eq!(
            [value(0), value(3), value(7), value(8), value(9)],
            [None, None, None, Some(0), Some(4000)]
        );
        let used: Vec<usize> = array.used().map(|(at, _)| at).collect();
        assert_eq!(used, [8, 9, 10, 11]);
    }
}
