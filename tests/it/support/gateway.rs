//! The gateway as its operator runs it: the binary, a file, a process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::Client;
use super::port::Port;
use super::upstream::Upstream;
use super::{PATIENCE, eventually};

/// Two providers, the second only when the first cannot serve.
pub const SPARE: &str = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none }, ejection: off }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: one }, { provider: two, weight: 0 }] }
"#;

/// The key of the admin listener.
pub const ADMIN_KEY: &str = "admin-key-of-the-harness";

/// A gateway to be started.
pub struct Plan {
    yaml: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    port: Port,
    admin: Port,
    dir: TempDir,
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    dir: TempDir,
    child: Child,
    _ports: (Port, Port),
}

/// A gateway with this configuration. `@NAME` stands for an upstream's address, `@dir` for a
/// folder of its own; without a `listen` it gets one listener, and one for operators.
pub fn with(yaml: &str) -> Plan {
    Plan {
        yaml: yaml.to_owned(),
        arguments: Vec::new(),
        environment: Vec::new(),
        port: Port::take(),
        admin: Port::take(),
        dir: TempDir::with_prefix("forebay-it-").unwrap(),
    }
}

/// A gateway that serves the model `m` from one upstream, and asks for no key.
pub async fn front(upstream: &Upstream) -> Gateway {
    with(FRONT).up("up", upstream).start().await
}

/// One vLLM replica, one model, no health checks.
pub const FRONT: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// A gateway that is given these arguments only, and no file.
pub fn by_arguments(arguments: &[&str], port: Port) -> Plan {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Plan { arguments, port, ..with("") }
}

// === impl Plan ===

impl Plan {
    #[must_use]
    pub fn up(self, name: &str, upstream: &Upstream) -> Self {
        self.place(name, &upstream.address.to_string())
    }

    #[must_use]
    pub fn place(mut self, name: &str, value: &str) -> Self {
        self.yaml = self.yaml.replace(&format!("@{name}"), value);
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where it is to be found, when something else than the file says so.
    #[must_use]
    pub fn at(self, port: Port) -> Self {
        Self { port, ..self }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub async fn start(self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.ready().await;
        gateway
    }

    /// Starts it, and does not wait for it to serve.
    pub fn spawn(mut self) -> Gateway {
        if self.arguments.is_empty() {
            let path = self.write();
            self.arguments = vec!["run".to_owned(), "-c".to_owned(), path];
        }
        let address: SocketAddr = self.port.address().parse().unwrap();
        let mut command = self.command();
        let log = File::create(self.dir.path().join("stderr")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Gateway {
            address,
            admin: self.admin.address().parse().unwrap(),
            child: command.spawn().unwrap(),
            dir: self.dir,
            _ports: (self.port, self.admin),
        }
    }

    /// Runs it to its end, for what it says.
    pub fn run(mut self, arguments: &[&str]) -> Output {
        let path = self.write();
        self.arguments =
            arguments.iter().map(|argument| argument.replace("@file", &path)).collect();
        self.command().stdin(Stdio::null()).output().unwrap()
    }

    fn write(&self) -> String {
        let dir = self.dir.path().to_str().unwrap();
        let mut yaml = self.yaml.replace("@dir", dir);
        if !yaml.contains("listen:") {
            let (data, admin) = (self.port.address(), self.admin.address());
            let listen = format!("\nlisten: [{{ address: \"{data}\" }}]");
            let admin = format!("\nadmin: {{ listen: \"{admin}\", key: {ADMIN_KEY} }}\n");
            yaml.extend([listen, admin]);
        }
        if !yaml.contains("threads:") {
            yaml.push_str("\nthreads: 2\n");
        }
        let yaml = yaml.replace("@listen", &self.port.address());
        let path = self.dir.path().join("forebay.yaml");
        std::fs::write(&path, yaml.replace("@admin", &self.admin.address())).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(&self.arguments).current_dir(self.dir.path()).env_clear();
        command.env("RUST_LOG", "warn,forebay=info,access=info");
        command.env("TMPDIR", std::env::temp_dir());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

// === impl Gateway ===

impl Gateway {
    async fn ready(&mut self) {
        let config = std::fs::read_to_string(self.dir.path().join("forebay.yaml"));
        let operated = config.is_ok_and(|yaml| yaml.contains("admin:"));
        let addresses = [self.address].into_iter().chain(operated.then_some(self.admin));
        for address in addresses {
            eventually("the gateway serves", async || {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("the gateway ended: {status}\n{}", self.log());
                }
                std::net::TcpStream::connect(address).ok()
            })
            .await;
        }
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A client of the operators' listener.
    pub fn operator(&self) -> Client {
        Client::new(self.admin)
    }

    /// What it said on standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    pub async fn metrics(&self) -> String {
        self.operator().get("/metrics").await.ok().text()
    }

    /// Waits for a metric, its labels as they are written, to have this value; what is not there
    /// is 0. A request is booked after its last byte is out.
    pub async fn counts(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.metrics().await;
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            if line.unwrap_or("0") == value.to_string() {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is never {value}:\n{text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `/health/detailed`.
    pub async fn health(&self) -> serde_json::Value {
        self.client().get("/health/detailed").await.ok().json()
    }

    /// How the replica at `upstream` is, in one word.
    pub async fn health_of(&self, upstream: &Upstream) -> String {
        let health = self.health().await;
        let address = upstream.address.to_string();
        let providers = health["providers"].as_array().unwrap().iter();
        let mut replicas = providers.flat_map(|one| one["replicas"].as_array().unwrap());
        let replica = replicas.find(|one| one["address"] == *address);
        replica.unwrap_or_else(|| panic!("{health}"))["health"].as_str().unwrap().to_owned()
    }

    /// The most memory it ever held, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the process to end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the gateway ends", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway said ---\n{}", self.log());
        }
    }
}
