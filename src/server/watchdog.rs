//! The watchdog: tells systemd that the data plane works, for as long as it does. Told nothing for
//! `WatchdogSec=`, systemd ends the process and starts another.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::{error, info};
use pingora::apps::HttpServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::notify;
use super::succession::ask_self;

/// How often systemd is told within the time it waits. More than the customary two: one slow answer
/// is no reason to be killed.
const SHARE: u32 = 3;

/// A service with the watchdog beside it, on the same runtime: when that hangs, so does this.
pub struct Watched<S, A> {
    pub service: S,
    /// What answers requests.
    pub app: Arc<A>,
    /// This process was started by the one before it.
    pub successor: bool,
}

#[async_trait]
impl<S, A> Service for Watched<S, A>
where
    S: Service,
    A: HttpServerApp + Send + Sync + 'static,
{
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let (app, mut told, successor) = (Arc::clone(&self.app), shutdown.clone(), self.successor);
        let ask = {
            let shutdown = shutdown.clone();
            move || {
                let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
                async move { ask_self(&app, &shutdown).await }
            }
        };
        let watchdog = async {
            tokio::select! {
                () = watchdog(successor, ask) => {}
                // From here on a successor speaks for itself, or nothing is waited for any more.
                _ = told.wait_for(|told| *told) => {}
            }
        };
        tokio::join!(self.service.start_service(fds, shutdown, listeners_per_fd), watchdog);
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}

/// Says that this process works whenever `works` finds so in time, for as long as it is polled.
/// Ends at once when systemd does not wait for that.
async fn watchdog<W: Future<Output = Result<(), String>>>(successor: bool, works: impl Fn() -> W) {
    let [wanted, of] = ["WATCHDOG_USEC", "WATCHDOG_PID"].map(std::env::var_os);
    let Some(patience) = patience(wanted.as_deref(), of.as_deref(), successor) else { return };
    info!("systemd waits {patience:?} for a sign of life");
    // In a thread of its own: should systemd hang, a full socket must not hold up requests.
    beat(patience / SHARE, works, || tokio::task::spawn_blocking(notify::alive)).await;
}

/// How long systemd waits for a sign of life; `None`: not at all. `of` is the process it began
/// with, which a successor is not.
fn patience(wanted: Option<&OsStr>, of: Option<&OsStr>, successor: bool) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let ours = successor || of.is_none_or(|of| number(of) == Some(std::process::id().into()));
    let microseconds = number(wanted?).filter(|number| *number > 0 && ours)?;
    Some(Duration::from_micros(microseconds))
}

/// Calls `say` every time `works` finds within `every` that all is well.
async fn beat<W: Future<Output = Result<(), String>>, S: Future>(
    every: Duration,
    works: impl Fn() -> W,
    say: impl Fn() -> S,
) {
    let mut turn = interval(every);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut well = true;
    loop {
        turn.tick().await;
        let found = timeout(every, works()).await;
        match found.unwrap_or_else(|_| Err(format!("no answer within {every:?}"))) {
            Ok(()) => {
                well = true;
                let _said = say().await;
            }
            Err(why) if well => {
                well = false;
                error!("the data plane does not work, and systemd will see to it: {why}");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::time::Instant;

    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    /// How often something was said within `time`, when `works` judges.
    async fn said<W>(time: Duration, works: impl Fn() -> W) -> u32
    where
        W: Future<Output = Result<(), String>>,
    {
        let count = AtomicU32::new(0);
        let say = || std::future::ready(count.fetch_add(1, Relaxed));
        let _ended = timeout(time, beat(EVERY, works, say)).await;
        count.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn it_speaks_at_once_and_then_in_turn() {
        assert_eq!(said(Duration::from_secs(35), || std::future::ready(Ok(()))).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn it_says_nothing_while_the_data_plane_fails() {
        let begun = Instant::now();
        let works = || match begun.elapsed().as_secs() {
            15..=25 => std::future::ready(Err("away".to_owned())),
            _ => std::future::ready(Ok(())),
        };
        assert_eq!(said(Duration::from_secs(35), works).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_data_plane_that_hangs_is_not_waited_for() {
        let begun = Instant::now();
        let works = || async move {
            if begun.elapsed() < Duration::from_secs(5) {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        // The first look takes a whole turn, and finds nothing.
        assert_eq!(said(Duration::from_secs(35), works).await, 3);
    }

    #[test]
    fn a_successor_speaks_although_another_process_is_named() {
        let [second, zero] = ["1000000", "0"].map(|text| Some(OsStr::new(text)));
        let own = std::process::id().to_string();
        let [own, other] = [own.as_str(), "1"].map(|text| Some(OsStr::new(text)));
        let expected = Some(Duration::from_secs(1));
        assert_eq!(patience(second, own, false), expected);
        assert_eq!(patience(second, None, false), expected);
        assert_eq!(patience(second, other, true), expected);
        assert_eq!(patience(second, other, false), None);
        assert_eq!(patience(zero, own, false), None);
        assert_eq!(patience(Some(OsStr::new("soon")), own, true), None);
        assert_eq!(patience(None, None, true), None);
    }
}
