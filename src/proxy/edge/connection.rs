//! What the phases of a request and the server tell each other of the connection it came on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

tokio::task_local! {
    /// The connection that this task serves. Streams of HTTP/2 have tasks of their own, without it.
    pub static CONNECTION: Arc<Connection>;
}

/// How far a client's connection has come.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its protocol is known.
    pub begun: AtomicBool,
    /// It speaks HTTP/2; its preface may still be to come.
    pub http2: AtomicBool,
    /// Heads of requests that were read.
    pub heads: AtomicU32,
    /// What arrives belongs to a head.
    pub awaits_head: AtomicBool,
}

/// Notes that a head is read.
pub fn note_head() {
    let _alone = CONNECTION.try_with(|connection| {
        connection.awaits_head.store(false, Relaxed);
        connection.heads.fetch_add(1, Relaxed)
    });
}
