//! What keepers keep, why and how it comes, and the cells that count it.

use super::{Cause, Fetched, at};

labels! {
    /// What a keeper keeps.
    Kept {
        /// The access_token.
        Token = "token",
        /// A ticket.
        Ticket = "ticket",
    }
}

labels! {
    /// A ticket that is kept, by the word that apps ask for it with where there is one.
    Ticket {
        /// WeChat's, for JS-SDK pages.
        Jsapi = "jsapi",
        /// WeChat's, for cards.
        Card = "wx_card",
        /// WeChat's, for mobile apps.
        Sdk = "2",
        /// WeCom's, of the corp.
        Corp = "corp",
        /// WeCom's, of an agent.
        Agent = "agent_config",
    }
}

labels! {
    /// How a call for a ticket was answered.
    Handed {
        /// With the ticket in hand.
        Held = "held",
        /// With one that was waited for.
        Waited = "waited",
        /// With an error.
        Failed = "failed",
    }
}

/// The cell of a request's end.
pub(super) fn fetches(kept: Kept, cause: Cause, fetched: Fetched) -> usize {
    let row = kept as usize * Cause::ALL.len() + cause as usize;
    at::FETCHES + row * Fetched::ALL.len() + fetched as usize
}

/// The cell of a ticket call's end.
pub(super) fn tickets(ticket: Ticket, handed: Handed) -> usize {
    at::TICKETS + ticket as usize * Handed::ALL.len() + handed as usize
}
