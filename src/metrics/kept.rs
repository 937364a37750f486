//! The labels of cached tokens and tickets, and the cells that count their fetches.

use super::{Cause, Fetched, at};

labels! {
    /// What a keeper caches.
    Kept {
        /// The access_token.
        Token = "token",
        /// A ticket.
        Ticket = "ticket",
    }
}

labels! {
    /// A cached ticket. The label is the `type` that apps ask for, if there is one.
    Ticket {
        /// WeChat's ticket for JS-SDK pages.
        Jsapi = "jsapi",
        /// WeChat's ticket for cards.
        Card = "wx_card",
        /// WeChat's ticket for mobile apps.
        Sdk = "2",
        /// The ticket of a WeCom corp.
        Corp = "corp",
        /// The ticket of a WeCom agent.
        Agent = "agent_config",
    }
}

labels! {
    /// How a call for a ticket was answered.
    Handed {
        /// With the cached ticket.
        Held = "held",
        /// With a ticket that the call waited for.
        Waited = "waited",
        /// With an error.
        Failed = "failed",
    }
}

/// The cell of a fetch with this result.
pub(super) fn fetches(kept: Kept, cause: Cause, fetched: Fetched) -> usize {
    let row = kept as usize * Cause::ALL.len() + cause as usize;
    at::FETCHES + row * Fetched::ALL.len() + fetched as usize
}

/// The cell of a ticket call with this result.
pub(super) fn tickets(ticket: Ticket, handed: Handed) -> usize {
    at::TICKETS + ticket as usize * Handed::ALL.len() + handed as usize
}
