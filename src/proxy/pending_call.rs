//! A call that is being answered. It is counted and recorded once, also when the app goes away before the reply.

use super::{Proxy, Reply, access, route::Call};
use crate::{metrics::Outcome, record::CallRecord};

/// See the [module](self).
pub(super) struct PendingCall<'a> {
    call: &'a Call<'a>,
    slot: usize,
    record: Option<Box<CallRecord>>,
    is_answered: bool,
}

impl<'a> PendingCall<'a> {
    /// The call `call`, with its record if there is one.
    pub(super) fn new(
        proxy: &Proxy,
        call: &'a Call<'a>,
        mut record: Option<Box<CallRecord>>,
    ) -> Self {
        if let Some(record) = &mut record {
            let is_known = call.endpoint.row().is_some();
            record.routed(call.account.id(), call.endpoint_label(), is_known);
        }
        Self {
            call,
            slot: proxy.metrics.slot(call.endpoint.row()),
            record,
            is_answered: false,
        }
    }

    /// The reply goes to the app.
    pub(super) fn answered(mut self, outcome: Outcome, reply: &mut Reply) {
        self.is_answered = true;
        self.call.account.metrics.call(self.slot, outcome);
        if let Some(record) = self.record.take() {
            access::record(record, Some(self.call), outcome, reply);
        }
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.call.account.metrics.call(self.slot, Outcome::AppGone);
        if let Some(record) = &mut self.record {
            record.sent(self.call.sends.summary(), Vec::new());
        }
    }
}
