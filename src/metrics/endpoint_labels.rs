//! The endpoints that have a label of their own: those that were called first.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use super::{ENDPOINT_LABELS, errcodes::OWN_REQUEST};
use crate::wechat::endpoint;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct EndpointLabels {
    /// The slot of each row of the table.
    slots: Box<[AtomicU8]>,
    /// The row of each slot.
    rows: Mutex<Vec<usize>>,
}

const UNASSIGNED: u8 = u8::MAX;

impl Default for EndpointLabels {
    fn default() -> Self {
        Self {
            slots: (0..endpoint::rows())
                .map(|_| AtomicU8::new(UNASSIGNED))
                .collect(),
            rows: Mutex::default(),
        }
    }
}

impl EndpointLabels {
    pub(super) fn slot(&self, row: usize) -> usize {
        match self.slots[row].load(Ordering::Relaxed) {
            UNASSIGNED => self.assign(row),
            slot => slot.into(),
        }
    }

    #[cold]
    fn assign(&self, row: usize) -> usize {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match rows.iter().position(|known| *known == row) {
            Some(slot) => slot,
            None if rows.len() < ENDPOINT_LABELS => {
                rows.push(row);
                rows.len() - 1
            }
            None => ENDPOINT_LABELS,
        };
        self.slots[row].store(
            u8::try_from(slot).unwrap_or(UNASSIGNED - 1),
            Ordering::Relaxed,
        );
        slot
    }

    pub(super) fn name(&self, slot: usize) -> &'static str {
        if slot == OWN_REQUEST {
            return "own_request";
        }
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(slot).map_or("other", |row| endpoint::label(*row))
    }
}
