//! Where each counter of an account is: offsets into its cells.

use super::{
    Cause, ENDPOINT_LABELS, Fetched, Handed, Kept, Outcome, Paced, Selection, Skipped, StoreEvent,
    Ticket, block, latency,
};

// What each call counts comes first and shares a part of the block, beside the one with its endpoint.
pub(super) const SELECTED: usize = 0;
/// All calls by outcome, whatever the endpoint.
pub(super) const ENDED: usize = SELECTED + Selection::ALL.len();
pub(super) const LATENCY: usize = ENDED + Outcome::ALL.len();
pub(super) const CALLS: usize = LATENCY + latency::CELLS;
pub(super) const REFUSALS: usize = CALLS + (ENDPOINT_LABELS + 1) * Outcome::ALL.len();
pub(super) const REPLAYS: usize = REFUSALS + 1;
pub(super) const SKIPPED: usize = REPLAYS + Outcome::ALL.len();
pub(super) const PACED: usize = SKIPPED + Skipped::ALL.len();
pub(super) const FETCHES: usize = PACED + Paced::ALL.len();
pub(super) const FORCED: usize = FETCHES + Kept::ALL.len() * Cause::ALL.len() * Fetched::ALL.len();
pub(super) const NOT_HELD: usize = FORCED + 1;
pub(super) const STORE: usize = NOT_HELD + 1;
pub(super) const TICKETS: usize = STORE + StoreEvent::ALL.len();
pub(super) const END: usize = TICKETS + Ticket::ALL.len() * Handed::ALL.len();

const _: () = assert!(CALLS <= block::PART);
