//! The measurement: both proxies, in turns, under the same load.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::callers;
use super::load::{Connection, Expected, Load};
use super::process::{Memory, Process, free_address, open_files};
use super::workload::{ANYBODY, KEY, Side, Workload, configuration, one_key, stored};

/// Fresh processes for the memory of open streams.
const REPEATS: usize = 3;
/// Files a process may need besides those of its streams.
const OTHER_FILES: usize = 200;
/// After which a process that was given something to do has done it.
const SETTLED: Duration = Duration::from_millis(300);

/// Everything that both proxies have in common.
pub struct Bench {
    gateway: PathBuf,
    threads: usize,
    upstream: Process,
    /// The same again, for providers of two replicas.
    second: Process,
    /// Where configurations are written.
    directory: tempfile::TempDir,
    /// Tokens that the gateway should have counted.
    tokens: usize,
    /// Requests that were not answered as they should have been.
    pub failures: usize,
}

/// One value for each of the two.
#[derive(Clone, Copy, Debug)]
pub struct Pair<T> {
    pub bare: T,
    pub gateway: T,
}

/// Both proxies, running.
pub type Proxies = Pair<Process>;

impl Bench {
    pub fn new(gateway: PathBuf) -> Self {
        Self {
            gateway,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            upstream: Process::role("upstream", free_address(), &[]),
            second: Process::role("upstream", free_address(), &[]),
            directory: tempfile::tempdir().expect("there should be room for a configuration"),
            tokens: 0,
            failures: 0,
        }
    }

    /// Starts both.
    pub fn start(&self) -> Proxies {
        let (address, upstream) = (free_address(), self.upstream.address.to_string());
        let more = [upstream.clone(), self.threads.to_string()];
        let bare = Process::role("bare", address, &more);

        Pair { bare, gateway: self.start_gateway("forebay", &one_key()) }
    }

    /// Starts two gateways: one that asks nobody for a key, and one whose caller has a key, a user,
    /// three limits and a quota.
    pub async fn start_limited(&self) -> Proxies {
        let bare = self.start_gateway("anonymous", ANYBODY);
        let store = format!("sqlite:{}", self.directory.path().join("bench.db").display());
        callers::write(&store).await;
        Pair { bare, gateway: self.start_gateway("limited", &stored(&store)) }
    }

    /// Starts two gateways: one that keeps no record of requests, and one that does.
    pub fn start_audited(&self) -> Proxies {
        let bare = self.start_gateway("unaudited", &one_key());
        let store = self.directory.path().join("audit.db");
        let audit = format!(
            "audit: {{ content: metadata, store: \"sqlite:{}\" }}\n{}",
            store.display(),
            one_key()
        );
        Pair { bare, gateway: self.start_gateway("audited", &audit) }
    }

    fn start_gateway(&self, name: &str, callers: &str) -> Process {
        let address = free_address();
        let path = self.directory.path().join(format!("{name}.yaml"));
        let (first, second) = (self.upstream.address.to_string(), self.second.address.to_string());
        let upstreams = [first.as_str(), second.as_str()];
        let text = configuration(&address.to_string(), upstreams, self.threads, callers);
        std::fs::write(&path, text).expect("the configuration should be written");
        Process::gateway(&self.gateway, &path, address)
    }

    /// Microseconds of processor time per request, round by round.
    pub async fn time(
        &mut self,
        proxies: Pair<&Process>,
        workload: Workload,
        rounds: usize,
        requests: usize,
    ) -> Vec<Pair<f64>> {
        let mut loads = Pair {
            bare: self.load(proxies.bare, workload, Side::Bare).await,
            gateway: self.load(proxies.gateway, workload, Side::Gateway).await,
        };
        let warm_up = requests.div_ceil(4);
        self.round(&mut loads.bare, proxies.bare, warm_up).await;
        self.round(&mut loads.gateway, proxies.gateway, warm_up).await;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let (bare, bare_reads) = self.round(&mut loads.bare, proxies.bare, requests).await;
            let (gateway, reads) = self.round(&mut loads.gateway, proxies.gateway, requests).await;
            eprintln!(
                "{workload:?}: bare {bare:.1} µs, gateway {gateway:.1} µs, ratio {:.3}; \
                 reads per answer {bare_reads:.1} and {reads:.1}",
                gateway / bare
            );
            times.push(Pair { bare, gateway });
        }
        let sides = if workload.is_of_gateway() { 2 } else { 1 };
        self.tokens += (warm_up + rounds * requests) * workload.tokens() * sides;
        times
    }

    /// Whether the gateway has read the usage of every answer so far.
    pub async fn check_usage(&mut self, proxies: &Proxies) {
        tokio::time::sleep(SETTLED).await;
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
        let body = ask(&proxies.gateway, request.as_bytes()).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let lines = text.lines().filter(|line| {
            line.starts_with("forebay_tokens_total") && line.contains("\"completion\"")
        });
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        let counted: usize = counts.sum();
        if counted != self.tokens {
            self.fail(&format!("{counted} tokens counted instead of {}", self.tokens));
        }
    }

    /// The load for one side, which knows the right answer.
    async fn load(&mut self, process: &Process, workload: Workload, side: Side) -> Load {
        let request = workload.request(side);
        let width = workload.connections();
        if let Some(expected) = workload.expected(side) {
            return Load::new(process.address, request, Expected::Exactly(expected), width);
        }
        let body = ask(process, &request).await.unwrap_or_default();
        self.tokens += workload.tokens();
        if !workload.is_answered_by(&body) {
            self.fail(&format!("{workload:?}: {}", String::from_utf8_lossy(&body)));
        }
        Load::new(process.address, request, Expected::ButForDigits(body), width)
    }

    async fn round(&mut self, load: &mut Load, process: &Process, requests: usize) -> (f64, f64) {
        let before = process.cpu();
        let round = load.run(requests).await;
        let spent = process.cpu().saturating_sub(before);
        for error in &round.failed {
            self.fail(error);
        }
        let requests = requests as f64;
        (spent.as_secs_f64() * 1e6 / requests, round.reads as f64 / requests)
    }

    /// KiB per open stream, for each fresh pair of processes.
    pub async fn idle(&mut self, wanted: usize) -> Vec<Pair<f64>> {
        // A proxy has two sockets for each stream.
        let fit = open_files().saturating_sub(OTHER_FILES) / 2;
        if fit < wanted {
            eprintln!("`ulimit -n` leaves room for {fit} streams instead of {wanted}");
        }
        let streams = wanted.min(fit);
        let mut growths = Vec::with_capacity(REPEATS);
        for _ in 0..REPEATS {
            let proxies = self.start();
            let bare = self.growth(&proxies.bare, Side::Bare, streams).await;
            let gateway = self.growth(&proxies.gateway, Side::Gateway, streams).await;
            eprintln!("{streams} streams: bare {bare:.1} KiB each, gateway {gateway:.1} KiB");
            growths.push(Pair { bare, gateway });
        }
        growths
    }

    async fn growth(&mut self, process: &Process, side: Side, streams: usize) -> f64 {
        // What the first requests allocate is not the streams'.
        let mut load = self.load(process, Workload::Burst, side).await;
        self.round(&mut load, process, 200).await;
        tokio::time::sleep(SETTLED).await;
        let before = process.memory().now;
        let request = Workload::Idle.request(Side::Bare);
        let mut open = Vec::with_capacity(streams);
        for _ in 0..streams {
            match begin(process, &request).await {
                Ok(connection) => open.push(connection),
                Err(error) => self.fail(&error.to_string()),
            }
        }
        tokio::time::sleep(SETTLED).await;
        process.memory().now.saturating_sub(before) as f64 / streams as f64
    }

    /// Counts a failure, and says the first few.
    fn fail(&mut self, what: &str) {
        self.failures += 1;
        if self.failures <= 10 {
            eprintln!("failed: {}", what.chars().take(500).collect::<String>());
        }
    }
}

impl Proxies {
    pub fn each(&self) -> Pair<&Process> {
        Pair { bare: &self.bare, gateway: &self.gateway }
    }

    /// The gateway beside itself, asked for something else.
    pub fn gateway_alone(&self) -> Pair<&Process> {
        Pair { bare: &self.gateway, gateway: &self.gateway }
    }

    pub fn memory(&self) -> Pair<Memory> {
        Pair { bare: self.bare.memory(), gateway: self.gateway.memory() }
    }
}

async fn ask(process: &Process, request: &[u8]) -> std::io::Result<Bytes> {
    Connection::open(process.address).await?.ask(request).await
}

async fn begin(process: &Process, request: &[u8]) -> std::io::Result<Connection> {
    let mut connection = Connection::open(process.address).await?;
    connection.begin(request).await?;
    Ok(connection)
}
