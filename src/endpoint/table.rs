//! The paths that are documented, laid out by `build.rs`: one look and one comparison find a path.

use super::{
    Credential,
    hash::{bucket, hash, place},
};
use crate::kind::Kind;

include!(concat!(env!("OUT_DIR"), "/endpoints.rs"));

/// A path of one of the tables.
struct Row {
    /// Where in the text it stands in lower case.
    key: u32,
    /// Where it stands as its documents write it.
    label: u32,
    length: u16,
    credential: Credential,
}

/// The rows of one kind.
struct Table<const BUCKETS: usize, const PLACES: usize> {
    first: usize,
    rows: usize,
    /// By bucket.
    shifts: [u16; BUCKETS],
    /// The row at each place.
    places: [u16; PLACES],
}

impl<const BUCKETS: usize, const PLACES: usize> Table<BUCKETS, PLACES> {
    fn find(&self, path: &[u8]) -> Option<usize> {
        let hash = hash(path);
        let shift = self.shifts[bucket(hash, BUCKETS)];
        let row = usize::from(self.places[place(hash, shift, PLACES)]);
        (text(ROWS[row].key, ROWS[row].length).as_bytes() == path).then_some(row)
    }
}

fn text(start: u32, length: u16) -> &'static str {
    let start = start as usize;
    &TEXT[start..start + usize::from(length)]
}

/// The row of `path`, in lower case, in the table of `kind`.
pub(super) fn find(kind: Kind, path: &[u8]) -> Option<usize> {
    match kind {
        Kind::Wechat => WECHAT.find(path),
        Kind::Wecom => WECOM.find(path),
    }
}

/// What the path at `row` takes.
pub(super) fn credential(row: usize) -> Credential {
    ROWS[row].credential
}

/// How many rows both tables have.
pub fn rows() -> usize {
    ROWS.len()
}

/// The rows of the table of `kind`.
pub fn rows_of(kind: Kind) -> std::ops::Range<usize> {
    let (first, rows) = match kind {
        Kind::Wechat => (WECHAT.first, WECHAT.rows),
        Kind::Wecom => (WECOM.first, WECOM.rows),
    };
    first..first + rows
}

/// The path at `row`, as its documents write it.
pub fn label(row: usize) -> &'static str {
    text(ROWS[row].label, ROWS[row].length)
}
