//! Load generators: programs from elsewhere, and threads of ours.
//!
//! They would run on another machine. Here they have the lowest priority, so that what is measured is
//! the work they make, and not their own.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, nice, setpriority_process};

use crate::support::eventually;

const LOWEST: i32 = 19;

/// From now on the calling thread steps back for others: Linux counts by threads.
pub fn step_back() {
    nice(LOWEST).unwrap();
}

/// A running program; killed when dropped.
pub struct Tool(Child);

impl Tool {
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{name}: {error}; tools/reliability installs it"));
        setpriority_process(Some(Pid::from_child(&child)), LOWEST).unwrap();
        Self(child)
    }

    /// Waits for its end; what it said. It must say less than a pipe holds.
    pub async fn ended(mut self, name: &str) -> String {
        eventually(name, async || self.0.try_wait().unwrap()).await;
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}
