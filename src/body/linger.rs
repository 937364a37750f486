//! Reads and discards what an app still sends, so that it can read the reply.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use tokio::time::{Duration, timeout};

/// How long an app may go on sending.
const MAX_TIME: Duration = Duration::from_secs(30);

/// How long it may pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Reads on for a while. `poll_next` reads, and returns whether there may be more. An app may read the reply only
/// after it has sent everything. If the connection were closed before, it would lose the reply.
pub async fn linger(mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<bool>) {
    let until_it_ends =
        async { while let Ok(true) = timeout(MAX_PAUSE, poll_fn(&mut poll_next)).await {} };
    // The result does not matter, because the connection ends anyway.
    let _ = timeout(MAX_TIME, until_it_ends).await;
}
