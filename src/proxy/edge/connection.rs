//! What the phases of a request and the server tell each other of the connection it came on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    /// The connection that this task serves. Streams of HTTP/2 have tasks of their own, without it.
    pub static CONNECTION: Arc<Connection>;
}

/// How far a client's connection has come.
#[derive(Debug)]
pub struct Connection {
    opened: Instant,
    /// When the next head must be there, in milliseconds after `opened`; [`NEVER`] while none is
    /// waited for.
    due: AtomicU64,
    /// It speaks HTTP/2; its preface may still be to come.
    pub http2: AtomicBool,
    /// Heads of requests that were read.
    pub heads: AtomicU32,
    /// What arrives belongs to a head.
    pub awaits_head: AtomicBool,
}

const NEVER: u64 = u64::MAX;

impl Connection {
    /// A new one, which may say nothing for `allowed`.
    pub fn new(allowed: Duration) -> Self {
        let connection = Self {
            opened: Instant::now(),
            due: AtomicU64::new(NEVER),
            http2: AtomicBool::new(false),
            heads: AtomicU32::new(0),
            awaits_head: AtomicBool::new(false),
        };
        connection.wait(allowed);
        connection
    }

    /// From now on a head is waited for.
    pub fn wait(&self, allowed: Duration) {
        let due = self.opened.elapsed().saturating_add(allowed).as_millis();
        self.due.store(u64::try_from(due).unwrap_or(NEVER), Relaxed);
    }

    /// None is.
    pub fn rest(&self) {
        self.due.store(NEVER, Relaxed);
    }

    /// When the head that is waited for must be there.
    pub fn due(&self) -> Option<Instant> {
        let due = Some(self.due.load(Relaxed)).filter(|due| *due != NEVER)?;
        self.opened.checked_add(Duration::from_millis(due))
    }
}

/// Notes that a head is read.
pub fn note_head() {
    let _alone = CONNECTION.try_with(|connection| {
        connection.awaits_head.store(false, Relaxed);
        connection.heads.fetch_add(1, Relaxed);
        connection.rest();
    });
}
