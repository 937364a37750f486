//! Lets a call wait for its turn, where a rule of `pace` says how fast calls may follow one another.

use tokio::time::Duration;

use super::{error::ProxyError, route::Call};
use crate::{account::pacing::Pacing, metrics::Paced};

/// Waits for the turn of `call`. Returns whether it had to wait.
#[cold]
pub(super) async fn paced(call: &Call<'_>, pacing: &Pacing) -> Result<bool, ProxyError> {
    let metrics = &call.account.metrics;
    let waited = pacing.turn(call.endpoint.path()).await;
    let waited = waited.inspect_err(|_| metrics.paced(Paced::TurnedDown))?;
    if waited == Duration::ZERO {
        return Ok(false);
    }
    metrics.paced(Paced::Waited);
    call.sends.paced(waited);
    Ok(true)
}
