//! Tickets: the same one is returned until it expires, always with a claimed lifetime of two hours.

use std::collections::HashMap;

use fastrand::Rng;
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::{
    quota::{DAY, Quota},
    reply::WechatReply,
    tokens::random_token,
};

/// All tickets, by account and type.
#[derive(Debug, Default)]
pub(super) struct IssuedTickets {
    current: HashMap<(usize, String), (String, Instant)>,
    quotas: HashMap<usize, Quota>,
    issued: Vec<String>,
}

/// The real and the claimed lifetime of tickets, and their quota.
#[derive(Clone, Copy, Debug)]
pub struct TicketRules {
    /// How long a ticket lives. A new token does not end it.
    pub life: Duration,
    /// The claimed lifetime in seconds, however old the ticket is.
    pub said: u64,
    /// How many requests an account has in a day.
    pub a_day: u32,
}

impl Default for TicketRules {
    fn default() -> Self {
        Self {
            life: Duration::from_secs(7200),
            said: 7200,
            a_day: 1000,
        }
    }
}

impl IssuedTickets {
    /// Returns the account's ticket of this type.
    pub(super) fn answer(
        &mut self,
        of: (usize, String),
        rules: TicketRules,
        now: Instant,
        rng: &mut Rng,
    ) -> WechatReply {
        let quota = self.quotas.entry(of.0);
        if !quota
            .or_insert_with(|| Quota::new(rules.a_day, DAY))
            .take(now)
        {
            return WechatReply::error(45009);
        }
        let known = self.current.get(&of);
        let ticket = match known.filter(|(_, since)| now - *since < rules.life) {
            Some((ticket, _)) => ticket.clone(),
            None => {
                let ticket = random_token(rng, "TICKET-");
                self.issued.push(ticket.clone());
                self.current.insert(of, (ticket.clone(), now));
                ticket
            }
        };
        WechatReply::json(&json!({
            "errcode": 0,
            "errmsg": "ok",
            "ticket": ticket,
            "expires_in": rules.said,
        }))
    }

    /// Every ticket that was issued, in order.
    pub(super) fn issued(&self) -> &[String] {
        &self.issued
    }
}
