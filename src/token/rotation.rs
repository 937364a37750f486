//! Reads secrets again that may have been rotated, off the runtime.

use std::sync::Arc;

use tokio::time::{Duration, timeout};

use crate::{rt::blocking::blocking_at, secret::SecretSource};

/// Reads the file of `secret` again, if it has one. Returns whether the secret has changed. After `limit` it is read on
/// in the background, and the last good secret stays in use until then.
pub async fn reread(secret: &Arc<SecretSource>, limit: Duration) -> bool {
    let Some(path) = secret.file_path() else {
        return false;
    };
    let source = secret.clone();
    let read = blocking_at(&path, move || source.reload());
    matches!(timeout(limit, read).await, Ok(Some(true)))
}
