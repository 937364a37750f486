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
/// than the bytes that are counted.
const LARGE: usize = LARGEST_READ / 4 * 3;

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
        // Alone it is not copied either.
        let is_all = self.left == 0 && self.held.is_empty() && self.small.is_empty();
        if is_all || data.len() >= LARGE {
            self.cut();
            self.put(data);
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

    fn put(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        let room = self.room.split(piece.len());
        let piece = roomed(piece, room);
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
            self.put(small);
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

    /// A body that came in pieces of `sizes`, each of other bytes.
    fn gathered(sizes: &[usize]) -> (Vec<Bytes>, Held, &'static Memory) {
        let length = sizes.iter().sum();
        let memory = Memory::new(length);
        let mut read = Gathered::new(length, memory.reserve(length).unwrap());
        let piece = |(number, size): (u8, &usize)| Bytes::from(vec![number; *size]);
        let pieces: Vec<Bytes> = (0..).zip(sizes).map(piece).collect();
        pieces.iter().for_each(|piece| read.push(piece.clone()));
        (pieces, read.into_held(), memory)
    }

    #[test]
    fn what_comes_in_large_pieces_is_not_copied_and_every_piece_is_counted_until_it_is_gone() {
        let third = LARGEST_READ / 3;
        for (came, kept) in [
            (&[1][..], &[1][..]),
            // What is small is put together.
            (&[1, 0, 3], &[4]),
            (&[third; 4], &[LARGEST_READ, 4 * third - LARGEST_READ]),
            (
                &[LARGE - 1, 0, LARGE - 1],
                &[LARGEST_READ, 2 * (LARGE - 1) - LARGEST_READ],
            ),
            (&[5, LARGE, 7, 8], &[5, LARGE, 15]),
            (&[LARGE, LARGEST_READ + 1], &[LARGE, LARGEST_READ + 1]),
        ] {
            let (pieces, mut held, memory) = gathered(came);
            assert_eq!(held.piece().is_some(), kept.len() == 1);
            let mut again = held.clone();
            let mut all = Vec::new();
            for &length in kept {
                assert!(!held.is_empty());
                assert_eq!(held.len(), pieces.concat().len() - all.len());
                // Whoever has a piece keeps its room, and no other.
                assert_eq!(memory.held(), held.len(), "{came:?}");
                let piece = held.next().unwrap();
                assert_eq!(piece.len(), length, "{came:?}");
                let mut large = pieces.iter().filter(|came| came.len() >= LARGE);
                let is_copied = !large.any(|large| large.as_ptr() == piece.as_ptr());
                assert_eq!(
                    is_copied,
                    !came.contains(&length) || length < LARGE,
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
