//! The gateway as its operator runs it: the binary, a file, a process.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::Client;
use super::port::Port;
use super::secrets;
use super::upstream::Upstream;
use super::{PATIENCE, eventually, within};

/// Two providers, the second only when the first cannot serve.
pub const SPARE: &str = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none }, ejection: off }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: one }, { provider: two, weight: 0 }] }
"#;

/// … that can be upgraded.
pub const UPGRADABLE: &str = r#"
upgrade_sock: @dir/run/upgrade.sock
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// The key of the admin listener.
pub const ADMIN_KEY: &str = "admin-key-of-the-harness";

/// A gateway to be started.
pub struct Plan {
    yaml: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Its standard output is a pipe that nobody reads, until a test takes it.
    piped: bool,
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
    /// What took its place, in turn.
    successors: Vec<u32>,
    _ports: (Port, Port),
}

/// A gateway with this configuration. `@NAME` stands for an upstream's address, `@dir` for a
/// folder of its own; without a `listen` it gets one listener, and one for operators.
pub fn with(yaml: &str) -> Plan {
    Plan {
        yaml: yaml.to_owned(),
        arguments: Vec::new(),
        environment: Vec::new(),
        piped: false,
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

    #[must_use]
    pub fn piped(self) -> Self {
        Self { piped: true, ..self }
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
        let out = if self.piped {
            Stdio::piped()
        } else {
            File::create(self.dir.path().join("stdout")).unwrap().into()
        };
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        Gateway {
            address,
            admin: self.admin.address().parse().unwrap(),
            child: command.spawn().unwrap(),
            dir: self.dir,
            successors: Vec::new(),
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
        secrets::note_all(&yaml);
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
    /// Waits until it serves. It listens before that, and lets whoever connects wait.
    async fn ready(&mut self) {
        eventually("the gateway serves", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the gateway ended: {status}\n{}", self.log());
            }
            let log = self.log();
            let mut lines = log.lines();
            let said =
                |line: &str| line.ends_with("] serving") || line.contains("the mock listens");
            lines.any(said).then_some(())
        })
        .await;
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

    /// The end of the pipe it writes to, of [`Plan::piped`].
    pub fn take_output(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Its configuration's file.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("forebay.yaml")
    }

    /// Changes its configuration's file.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let yaml = std::fs::read_to_string(self.file()).unwrap();
        std::fs::write(self.file(), change(yaml)).unwrap();
    }

    /// Reloads that went well, and those that did not.
    pub fn reloads(&self) -> (usize, usize) {
        let log = self.log();
        (log.matches(" is in force: ").count(), log.matches("not reloaded, ").count())
    }

    /// Has it read its configuration again; whether that went well.
    pub async fn reload(&self) -> bool {
        let (good, bad) = self.reloads();
        self.signal("HUP");
        self.reloaded_since((good, bad)).await
    }

    /// Waits for a reload by itself; whether that went well.
    pub async fn reloaded_since(&self, before: (usize, usize)) -> bool {
        let (good, bad) = before;
        eventually("a reload", async || match self.reloads() {
            (now, _) if now > good => Some(true),
            (_, now) if now > bad => Some(false),
            _ => None,
        })
        .await
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
        signal(self.pid(), name);
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.successors.last().copied().unwrap_or_else(|| self.child.id())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A binary that is the real one, but for what `script` does first.
    pub fn binary(&self, script: &str) -> String {
        let path = self.dir.path().join("forebay-new");
        let real = env!("CARGO_BIN_EXE_forebay");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\nexec {real} \"$@\"\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The process that was started last to take over, by the log.
    pub async fn started(&self) -> u32 {
        let pid = || {
            let log = self.log();
            let line = log.lines().rev().find(|line| line.contains("upgrade: started process "))?;
            line.rsplit(' ').next()?.parse().ok()
        };
        eventually("a process is started", async || pid()).await
    }

    /// Every process that is to be gone once what they have under way has ended.
    pub fn predecessors(&self) -> Vec<u32> {
        let all = std::iter::once(self.child.id()).chain(self.successors.iter().copied());
        all.filter(|pid| *pid != self.pid()).collect()
    }

    /// Runs `forebay upgrade` on it: the process that serves now, or what the command said.
    pub async fn upgrade(&mut self, arguments: &[&str]) -> Result<u32, String> {
        let file = self.dir.path().join("forebay.yaml");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("upgrade").arg("-c").arg(file).args(arguments).env_clear();
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = within("the upgrade", command.output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            return Err(format!("{said}({})", output.status));
        }
        let pid =
            said.lines().find_map(|line| line.strip_prefix("process ")?.strip_suffix(" serves"));
        let pid = pid.unwrap_or_else(|| panic!("which process? {said}")).parse().unwrap();
        self.successors.push(pid);
        Ok(pid)
    }

    /// Waits for the process to end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the gateway ends", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Whatever it started, known to the test or not.
        for line in self.log().lines() {
            if let Some((_, pid)) = line.split_once("upgrade: started process ") {
                let _gone = Command::new("kill").args(["-s", "KILL", pid]).output();
            }
        }
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway said ---\n{}", self.log());
        } else {
            secrets::look(self.dir.path());
        }
    }
}

/// Sends a signal to a process that is there.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Whether a process is still there, and not only as one whose end nobody has asked for.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
