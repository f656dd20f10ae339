//! Work that must not end by a mistake: what panics begins again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

/// How long after a panic: one that comes back must not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// What `work` comes to, begun again for as often as it panics.
pub async fn tireless<F: Future>(mut work: impl FnMut() -> F) -> F::Output {
    loop {
        // Each beginning is a fresh one: what was half-done has been dropped.
        if let Ok(done) = AssertUnwindSafe(work()).catch_unwind().await {
            return done;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_begins_again_after_a_pause() {
        let began = tokio::time::Instant::now();
        let mut turn = 0;
        let work = || {
            turn += 1;
            let turn = turn;
            async move {
                assert!(turn > 2, "not yet");
                turn
            }
        };
        assert_eq!(tireless(work).await, 3);
        assert_eq!(began.elapsed(), 2 * PAUSE);
    }
}
