//! Long loops that let the other tasks of their runtime run in between.

use tokio::task::yield_now;

/// How many steps follow one another.
const PIECE: usize = 128;

/// To be awaited in each step of a long loop, with the number of the step: after some of them, other tasks get a turn.
pub async fn step(at: usize) {
    if at % PIECE == PIECE - 1 {
        yield_now().await;
    }
}
