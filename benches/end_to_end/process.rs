//! The processes of a run: started, asked for what they have used, and ended.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to listen.
const START: Duration = Duration::from_secs(30);
/// Between two looks at whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// The unit of `/proc/PID/stat`, the same on all of Linux.
const TICK: Duration = Duration::from_millis(10);

/// A process that listens, and ends with this value.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

/// What a process holds in memory, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

impl Process {
    /// Starts this program in another role.
    pub fn role(role: &str, address: SocketAddr, more: &[String]) -> Self {
        let program = std::env::current_exe().expect("this program should have a path");
        let mut command = Command::new(program);
        command.arg(role).arg(address.to_string()).args(more);
        Self::start(command, address)
    }

    /// Starts the gateway.
    pub fn gateway(program: &Path, configuration: &Path, address: SocketAddr) -> Self {
        let mut command = Command::new(program);
        command.arg("run").arg("-c").arg(configuration);
        Self::start(command, address)
    }

    fn start(mut command: Command, address: SocketAddr) -> Self {
        // Without an environment: `PORT` and its like would change what the gateway is told.
        command.env_clear().env("RUST_LOG", "warn").stdin(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut process = Self { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = process.child.try_wait().expect("a child can be asked for");
            assert!(ended.is_none(), "{command:?} has ended: {ended:?}");
            assert!(begun.elapsed() < START, "{command:?} does not listen on {address}");
            std::thread::sleep(LOOK);
        }
        process
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processor time of all its threads.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id()));
        let tasks = tasks.expect("the process should be there");
        let spent: Vec<u64> = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse().ok())
            .collect();
        if spent.is_empty() {
            return self.ticks();
        }
        Duration::from_nanos(spent.iter().sum())
    }

    /// The same by the kernel's clock ticks, where it does not count more finely.
    fn ticks(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.id()));
        let text = text.expect("the process should be there");
        // The name, in parentheses, may hold anything; user and system time are 11 further.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: u32 = fields.skip(11).take(2).flat_map(str::parse::<u32>).sum();
        TICK * ticks
    }

    pub fn memory(&self) -> Memory {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id()));
        let text = text.expect("the process should be there");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Memory { now: field("VmRSS:").unwrap_or(0), peak: field("VmHWM:").unwrap_or(0) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address on loopback that nobody listens on.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback should have a free port");
    listener.local_addr().expect("a listener should have an address")
}

/// How many files a process may have open, as the processes started here inherit it.
pub fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    // Without a number there is no limit.
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}
