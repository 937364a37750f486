//! A body in memory, and the room that it takes.

use std::mem;

use bytes::Bytes;

use crate::{memory::Room, socket::LARGEST_READ};

/// Bytes in memory, in one piece or in several. Each keeps the room that it takes for as long as anybody has it,
/// be it a queue to a WeChat that does not read.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Empty only if there is nothing behind it either.
    first: Bytes,
    /// What comes behind it, the last first.
    behind: Vec<Bytes>,
}

/// What owns bytes.
struct Roomed {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn roomed(bytes: impl Into<Bytes>, room: Room) -> Bytes {
    Bytes::from_owner(Roomed {
        bytes: bytes.into(),
        _room: room,
    })
}

impl Held {
    /// Bytes that nobody counts.
    pub(super) fn ready(bytes: Bytes) -> Self {
        Self {
            first: bytes,
            behind: Vec::new(),
        }
    }

    /// All `bytes` of a body, for which there is `room`.
    pub(super) fn whole(bytes: impl Into<Bytes>, room: Room) -> Self {
        Self::ready(roomed(bytes, room))
    }

    /// The bytes, if they are in one piece.
    pub(super) fn piece(&self) -> Option<&Bytes> {
        self.behind.is_empty().then_some(&self.first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() + self.behind.iter().map(Bytes::len).sum::<usize>()
    }

    /// Gives the next piece away.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let next = mem::replace(&mut self.first, self.behind.pop().unwrap_or_default());
        (!next.is_empty()).then_some(next)
    }
}

/// How large a piece is kept as it came. A smaller one would hold much more of the buffer that it was read into
/// than it has bytes.
const LARGE: usize = LARGEST_READ / 2;

/// A body of known length on its way into memory. What comes in large pieces is not copied.
pub(super) struct Gathered {
    /// What is behind the first piece, the last one last.
    held: Held,
    /// Small ones, put together.
    small: Vec<u8>,
    /// How many bytes are still to come.
    left: usize,
    /// For what has no room of its own yet.
    room: Room,
}

impl Gathered {
    /// Nothing yet of `length` bytes, for which there is `room`.
    pub(super) fn new(length: usize, room: Room) -> Self {
        Self {
            held: Held::default(),
            small: Vec::new(),
            left: length,
            room,
        }
    }

    pub(super) fn push(&mut self, data: Bytes) {
        self.left = self.left.saturating_sub(data.len());
        let is_all = self.left == 0 && self.held.is_empty() && self.small.is_empty();
        // The buffer that it was read into counts, too.
        let buffer = data.len().max(LARGEST_READ);
        if is_all {
            let room = self.room.split(data.len());
            self.put(roomed(data, room));
        } else if data.len() >= LARGE && self.room.grow(buffer - data.len()) {
            self.cut();
            let room = self.room.split(buffer);
            self.put(roomed(data, room));
        } else {
            self.copy(&data);
        }
    }

    fn copy(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.small.len() == self.small.capacity() {
                self.cut();
                self.small
                    .reserve_exact((data.len() + self.left).min(LARGEST_READ));
            }
            let some = data.len().min(self.small.capacity() - self.small.len());
            self.small.extend_from_slice(&data[..some]);
            data = &data[some..];
        }
    }

    fn put(&mut self, piece: Bytes) {
        if self.held.is_empty() {
            self.held.first = piece;
        } else {
            self.held.behind.push(piece);
        }
    }

    /// Ends the piece that small ones are put together in.
    fn cut(&mut self) {
        if !self.small.is_empty() {
            // What is counted is what is in it.
            self.small.shrink_to_fit();
            let small = mem::take(&mut self.small);
            let room = self.room.split(small.len());
            self.put(roomed(small, room));
        }
    }

    /// What has come.
    pub(super) fn into_held(mut self) -> Held {
        self.cut();
        self.held.behind.reverse();
        self.held
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    /// A body that came in pieces of `sizes`, each of other bytes, when there was room for `spare` bytes more.
    fn gathered(sizes: &[usize], spare: usize) -> (Vec<Bytes>, Held, &'static Memory) {
        let length = sizes.iter().sum();
        let memory = Memory::new(length + spare);
        let mut read = Gathered::new(length, memory.reserve(length).unwrap());
        let piece = |(number, size): (u8, &usize)| Bytes::from(vec![number; *size]);
        let pieces: Vec<Bytes> = (0..).zip(sizes).map(piece).collect();
        pieces.iter().for_each(|piece| read.push(piece.clone()));
        (pieces, read.into_held(), memory)
    }

    #[test]
    fn what_comes_in_large_pieces_is_not_copied_and_every_piece_is_counted() {
        let third = LARGEST_READ / 3;
        for (came, spare, kept, counted) in [
            (&[1][..], 0, &[1][..], &[1][..]),
            // What is small is put together.
            (&[1, 0, 3], 0, &[4], &[4]),
            (
                &[LARGE - 1, 0, LARGE - 1],
                0,
                &[2 * LARGE - 2],
                &[2 * LARGE - 2],
            ),
            (
                &[third; 4],
                0,
                &[LARGEST_READ, 4 * third - LARGEST_READ],
                &[LARGEST_READ, 4 * third - LARGEST_READ],
            ),
            // What is large counts as much as the buffer that it is in.
            (
                &[5, LARGE, 7, 8],
                LARGE,
                &[5, LARGE, 15],
                &[5, LARGEST_READ, 15],
            ),
            (
                &[LARGEST_READ, LARGEST_READ + 1],
                0,
                &[LARGEST_READ, LARGEST_READ + 1],
                &[LARGEST_READ, LARGEST_READ + 1],
            ),
            // Without room for that it is copied, too.
            (&[5, LARGE, 7], LARGE - 1, &[LARGE + 12], &[LARGE + 12]),
        ] {
            let (pieces, mut held, memory) = gathered(came, spare);
            assert_eq!(held.len(), came.iter().sum::<usize>());
            assert_eq!(held.piece().is_some(), kept.len() == 1);
            let mut again = held.clone();
            let mut all = Vec::new();
            for at in 0..kept.len() {
                // Of what has left only the room of the other copy is taken.
                let counted: usize = counted[at..].iter().sum();
                assert_eq!(memory.held(), counted, "{came:?}");
                assert!(!held.is_empty());
                let piece = held.next().unwrap();
                assert_eq!(piece.len(), kept[at], "{came:?}");
                let mut large = pieces.iter().filter(|came| came.len() >= LARGE);
                let copied = !large.any(|large| large.as_ptr() == piece.as_ptr());
                assert_eq!(
                    copied,
                    !came.contains(&kept[at]) || kept[at] < LARGE,
                    "{came:?}"
                );
                all.extend_from_slice(&piece);
                assert!(again.next().unwrap() == piece);
            }
            assert!(all == pieces.concat() && held.is_empty() && held.next().is_none());
            assert_eq!(memory.held(), 0);
        }
    }
}
