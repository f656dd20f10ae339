//! Ports that no other test takes.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Below Linux's ephemeral ports, so that no outgoing connection sits on one.
const FIRST: u32 = 10_240;
const COUNT: u32 = 22_000;

static TURN: AtomicU32 = AtomicU32::new(0);

/// A free port on 127.0.0.1, this test's own for as long as it lives.
pub struct Port {
    pub number: u16,
    _lock: File,
}

impl Port {
    /// Tests run as processes of their own: a locked file tells them which ports are taken.
    pub fn take() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
        std::fs::create_dir_all(&folder).unwrap();
        loop {
            let turn = TURN.fetch_add(1, Relaxed);
            let number = FIRST + (std::process::id().wrapping_mul(7919) + turn) % COUNT;
            let path = folder.join(number.to_string());
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path);
            let lock = lock.unwrap();
            let number = u16::try_from(number).unwrap();
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
    }

    /// This one, which the gateway's own default asks for.
    pub fn fixed(number: u16) -> Self {
        Self { number, ..Self::take() }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
