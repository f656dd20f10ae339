//! PostgreSQL and Redis: a database of one's own in the server that runs, a Redis server of one's own.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;
use super::gateway::signal;
use super::port::Port;

/// A database that is gone when dropped.
pub struct Database {
    name: String,
    server: String,
}

/// A Redis server; killed when dropped.
pub struct Redis {
    port: Port,
    child: Option<Child>,
    dir: TempDir,
}

fn said(name: &str, otherwise: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "where the tests' databases are")]
    let said = std::env::var(name);
    said.unwrap_or_else(|_| otherwise.to_owned())
}

impl Database {
    pub fn create() -> Self {
        let server = said("FOREBAY_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432");
        let name = format!("forebay_it_{:016x}", rand::random::<u64>());
        let database = Self { name, server: server.trim_end_matches('/').to_owned() };
        database.tell(&format!("CREATE DATABASE {}", database.name));
        database
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// Its URL, by way of somebody else at `address`.
    pub fn url_by(&self, address: &str) -> String {
        self.url().replacen(&self.host(), address, 1)
    }

    /// `host:port` of the server.
    pub fn host(&self) -> String {
        let (_, rest) = self.server.split_once("://").unwrap();
        rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
    }

    fn tell(&self, what: &str) {
        let mut psql = Command::new("psql");
        psql.args(["-qXv", "ON_ERROR_STOP=1", "-d"]).arg(format!("{}/postgres", self.server));
        psql.args(["-c", what]).stdin(Stdio::null());
        let done = psql.output().unwrap_or_else(|error| panic!("psql: {error}"));
        assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tell(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

impl Redis {
    pub async fn start() -> Self {
        let mut redis = Self {
            port: Port::take(),
            child: None,
            dir: TempDir::with_prefix("forebay-redis-").unwrap(),
        };
        redis.revive().await;
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address().parse().unwrap()
    }

    /// Starts it, empty, where it was.
    pub async fn revive(&mut self) {
        let address = self.port.address();
        let (host, port) = address.rsplit_once(':').unwrap();
        let mut server = Command::new("redis-server");
        server.args(["--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir"]);
        server.arg(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(server.spawn().unwrap_or_else(|error| panic!("redis-server: {error}")));
        eventually("Redis answers", async || (self.ask(&["PING"]) == "PONG").then_some(())).await;
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }

    /// SIGSTOP: its connections stay, and nothing is heard of it. SIGCONT ends that.
    pub fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap().id(), name);
    }

    /// What it says to a command.
    pub fn ask(&self, command: &[&str]) -> String {
        let address = self.port.address();
        let (host, port) = address.rsplit_once(':').unwrap();
        let mut cli = Command::new("redis-cli");
        let done = cli.args(["-h", host, "-p", port]).args(command).stdin(Stdio::null()).output();
        String::from_utf8_lossy(&done.unwrap().stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
