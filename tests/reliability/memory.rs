//! How much memory the gateway's process takes beyond what it had.

use crate::sheet::count;
use crate::support::gateway::Gateway;

/// What a process held when this was taken, and its highest mark from then on.
pub struct Memory {
    process: u32,
    before: u64,
}

impl Memory {
    pub fn mark(gateway: &Gateway) -> Self {
        let process = gateway.pid();
        // Linux forgets the highest mark so far (proc(5), clear_refs).
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
        Self { process, before: field(process, "VmRSS:") }
    }

    /// MiB at the highest, less what there was before.
    pub fn grown(&self) -> f64 {
        let most = field(self.process, "VmHWM:");
        count(most.saturating_sub(self.before)) / 1024.0
    }

    /// MiB at the highest, all told.
    pub fn most(&self) -> f64 {
        count(field(self.process, "VmHWM:")) / 1024.0
    }
}

/// A line of `/proc/PID/status`, in KiB.
fn field(process: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
