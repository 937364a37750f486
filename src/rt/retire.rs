//! Drops what other threads may still use, where that delays nobody.

use std::sync::Arc;

use tokio::{
    task::spawn_blocking,
    time::{Duration, sleep},
};

/// How often it is asked whether others still use it.
const PAUSE: Duration = Duration::from_millis(20);

/// Keeps `shared` until nobody else uses it, and then drops it on a thread that may block. So none of those who use it,
/// such as a worker in the middle of a call, is ever the last and has to free it.
pub async fn retire<T: Send + Sync + 'static>(mut shared: Arc<T>) {
    loop {
        match Arc::try_unwrap(shared) {
            Ok(unused) => {
                let _ = spawn_blocking(move || drop(unused)).await;
                return;
            }
            Err(used) => shared = used,
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        thread::{self, ThreadId},
    };

    use super::*;

    struct TellsWhere(mpsc::Sender<ThreadId>);

    impl Drop for TellsWhere {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_user_does_not_free_it_and_neither_does_the_runtime() {
        let (told, places) = mpsc::channel();
        let shared = Arc::new(TellsWhere(told));
        let used = shared.clone();
        let retiring = tokio::spawn(retire(shared));
        sleep(10 * PAUSE).await;
        let worker = thread::spawn(move || {
            drop(used);
            thread::current().id()
        });
        let worker = worker.join().unwrap();
        assert!(places.try_recv().is_err());
        retiring.await.unwrap();
        let place = places.try_recv().unwrap();
        assert!(place != worker && place != thread::current().id());
    }
}
