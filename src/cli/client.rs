//! The admin API as the command line asks it: over the running server's listener, or, where none
//! runs, the same API over the store, within this process.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, header};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::complain;
use super::run::find;
use crate::access::{Registry, key};
use crate::admin::dynamic::Shelf;
use crate::admin::seal::Seal;
use crate::admin::{Admin, Desk, Steward};
use crate::config::{self, Config, Problem, Secret, Source, load};
use crate::server::{self, ConfigFile, reachable};
use crate::snapshot::{Origin, Snapshot};
use crate::store::{Kind, Put, Record, Store, StoreError};
use crate::telemetry::Metrics;

/// For a connection to a server on this machine or near it.
const CONNECT: Duration = Duration::from_secs(2);
/// For a whole answer: the store has a few seconds for each of its parts.
const ANSWER: Duration = Duration::from_secs(70);
/// Records that are copied at once.
const AT_ONCE: u32 = 1000;
/// The longest answer: a thousand records are well below.
const LONGEST: u64 = 64 << 20;

/// Which server or store is meant.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Where {
    /// The configuration [default: ./forebay.yaml, then /etc/forebay/forebay.yaml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Asks the admin API.
pub struct Client {
    runtime: Runtime,
    way: Way,
    key: Secret,
}

enum Way {
    /// The running server's listener for operators.
    Server(SocketAddr),
    /// No server runs.
    Here(Box<Here>),
}

/// The API over the store, without a server.
struct Here {
    admin: Admin,
    store: Store,
    /// Where a copy lies, until it is dropped.
    folder: Option<tempfile::TempDir>,
}

/// What was answered.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

// === impl Client ===

impl Client {
    /// The running server, when `admin` is configured and answers; else the store. What is wrong has
    /// been said when there is neither.
    pub fn open(place: &Where) -> Result<Self, ExitCode> {
        let (file, source, config) = read(place)?;
        let runtime = runtime()?;
        if let Some(admin) = &config.admin {
            let address = reachable(admin.listen);
            if runtime.block_on(answers(address)) {
                let key = admin.key.clone();
                return Ok(Self { runtime, way: Way::Server(address), key });
            }
        }
        Self::over_store(runtime, &file, source, config)
    }

    /// Only the running server.
    pub fn server(place: &Where) -> Result<Self, ExitCode> {
        let (_, _, config) = read(place)?;
        let Some(admin) = config.admin else {
            complain("this configuration has no `admin`, over which a server could be asked");
            return Err(ExitCode::from(2));
        };
        let (runtime, address) = (runtime()?, reachable(admin.listen));
        if !runtime.block_on(answers(address)) {
            complain(format_args!("no server answers at {address} (`admin.listen`)"));
            return Err(ExitCode::FAILURE);
        }
        Ok(Self { runtime, way: Way::Server(address), key: admin.key })
    }

    /// Only the store, whether or not a server runs.
    pub fn store(place: &Where) -> Result<Self, ExitCode> {
        let (file, source, config) = read(place)?;
        Self::over_store(runtime()?, &file, source, config)
    }

    /// A copy of the store, which goes with the client: what would come of something.
    pub fn scratch(place: &Where) -> Result<Self, ExitCode> {
        let (file, source, config) = read(place)?;
        let Some(url) = config.store_url(file.folder()) else {
            complain(
                "this configuration has no store: add `store: {}` for a file of its own, or a `url`",
            );
            return Err(ExitCode::from(2));
        };
        let runtime = runtime()?;
        let folder = tempfile::tempdir().map_err(failed)?;
        let copied = runtime.block_on(copy(&url, folder.path())).map_err(failed)?;
        let (mut here, key) = Here::new(source, config, copied).map_err(failed)?;
        here.folder = Some(folder);
        Ok(Self { runtime, way: Way::Here(Box::new(here)), key })
    }

    fn over_store(
        runtime: Runtime,
        file: &ConfigFile,
        source: Source,
        config: Config,
    ) -> Result<Self, ExitCode> {
        let Some(url) = config.store_url(file.folder()) else {
            complain(
                "no server runs that could be asked, and this configuration has no store: add \
                 `store: {}` for a file of its own, or a `url`",
            );
            return Err(ExitCode::from(2));
        };
        let store = runtime.block_on(Store::open(&url)).map_err(failed)?;
        let here = Here::new(source, config, store).map_err(failed)?;
        let (here, key) = here;
        Ok(Self { runtime, way: Way::Here(Box::new(here)), key })
    }

    /// The store, when it is asked directly.
    pub fn opened(&self) -> Option<&Store> {
        match &self.way {
            Way::Here(here) => Some(&here.store),
            Way::Server(_) => None,
        }
    }

    /// Runs something on this client's runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Asks for a path below `/admin/v1`; the error is what a person is told.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        self.send(method, &format!("/admin/v1{path}"), body)
    }

    /// … and what is refused is an error as well.
    pub fn get(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.ask(method, path, body)?.good()
    }

    /// Every entry of a list.
    pub fn list(&self, path: &str) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get("GET", &format!("{path}?limit=1000{after}"), None)?;
            let entries = page.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
            let more = page.get("has_more").and_then(Value::as_bool).unwrap_or_default();
            let last = page.get("last_id").and_then(Value::as_str).unwrap_or_default();
            after = format!("&after={}", escaped(last));
            let end = entries.is_empty() || !more;
            all.extend(entries);
            if end {
                return Ok(all);
            }
        }
    }

    /// A text from the listener for operators; `None` without a server.
    pub fn page(&self, path: &str) -> Option<String> {
        let Way::Server(address) = self.way else { return None };
        let asked = self
            .block_on(async { timeout(ANSWER, ask(address, "GET", path, &self.key, None)).await });
        let (status, body) = asked.ok()?.ok()?;
        (status == 200).then(|| String::from_utf8_lossy(&body).into_owned())
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let body = body.map(Value::to_string);
        let (status, body) = match &self.way {
            Way::Server(address) => {
                let asked = ask(*address, method, path, &self.key, body.as_deref());
                let asked = self.block_on(async { timeout(ANSWER, asked).await });
                let asked = asked.map_err(|_| format!("{address} does not answer"))?;
                asked.map_err(|error| format!("{address}: {error}"))?
            }
            Way::Here(here) => {
                let request = request(method, path, &self.key, body)?;
                let answer = self.runtime.block_on(here.admin.answer(request, None));
                let made = method == "POST" && path == "/admin/v1/keys" && answer.status() == 201;
                if made {
                    // No server is there to note it.
                    let noted = self.runtime.block_on(Registry::remember_keys(&here.store));
                    noted.map_err(|error| error.to_string())?;
                }
                (answer.status().as_u16(), answer.into_body().to_vec())
            }
        };
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answer { status, body })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Way::Here(here) = &self.way {
            self.runtime.block_on(here.store.close());
        }
    }
}

// === impl Answer ===

impl Answer {
    /// The body; what was refused is an error.
    pub fn good(self) -> Result<Value, String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let message = self.body.pointer("/error/message").and_then(Value::as_str);
        Err(message.map_or_else(|| format!("the answer is {}", self.status), str::to_owned))
    }
}

// === impl Here ===

impl Here {
    /// The API as an operator would find it, with the key that opens it.
    fn new(
        source: Source,
        mut config: Config,
        store: Store,
    ) -> Result<(Self, Secret), Box<dyn std::error::Error>> {
        let sealed = Seal::of(&config).is_ok();
        let admin = config.admin.get_or_insert_with(|| config::Admin {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            key: key::generate().secret,
            on_data_listener: false,
        });
        let key = admin.key.clone();
        let seal = if sealed { Seal::of(&config).ok() } else { None };
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::compile(
            config,
            Origin::of(&source.text),
            None,
        )?));
        let registry = Arc::new(Registry::new(true, Arc::default()));
        registry.attach(Some(store.clone()));
        let steward: Arc<dyn Steward> = Arc::new(Nobody { source, seal });
        let desk = Arc::new(Desk::new(snapshot, registry, steward, Arc::default(), None));
        let admin = Admin::new(desk, Arc::new(Metrics::new()?));
        Ok((Self { admin, store, folder: None }, key))
    }
}

/// Stands in for the server that would put changes into force.
struct Nobody {
    source: Source,
    /// `None`: the configuration has nothing that secrets could be sealed with.
    seal: Option<Seal>,
}

#[async_trait]
impl Steward for Nobody {
    async fn reload(&self) -> Result<(), Vec<String>> {
        Err(vec!["no server runs that could read its configuration again".to_owned()])
    }

    async fn would_hold(&self, wanted: Shelf) -> Result<(), Vec<String>> {
        if self.seal.is_none() {
            let why = "set `store.encryption_key` or `admin.key`: secrets of providers are sealed with it";
            return Err(vec![why.to_owned()]);
        }
        let dynamic = wanted.compose(self.seal.as_ref()).items;
        let source = Source { dynamic, ..self.source.clone() };
        let lines = |problems: Vec<Problem>| -> Vec<String> {
            problems.iter().map(|one| one.message.clone()).collect()
        };
        let (config, _) = load(&source).map_err(lines)?;
        server::check(config).map_err(|error| vec![error.to_string()])
    }

    async fn follow_store(&self) -> Result<(), Vec<String>> {
        Ok(())
    }
}

/// An id as a part of a path.
pub fn escaped(text: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The configuration that is named, or the one that is found.
fn read(place: &Where) -> Result<(ConfigFile, Source, Config), ExitCode> {
    let Some(path) = find(place.config.as_deref()) else {
        complain("no configuration: `-c` names one");
        return Err(ExitCode::from(2));
    };
    read_path(&path)
}

fn read_path(path: &Path) -> Result<(ConfigFile, Source, Config), ExitCode> {
    let file = ConfigFile::note(path);
    let source = Source::read(path).map_err(|error| {
        complain(config::Problems::unreadable(path, &error));
        ExitCode::from(2)
    })?;
    // Warnings are for `check`.
    match load(&source) {
        Ok((config, _)) => Ok((file, source, config)),
        Err(problems) => {
            complain(config::Problems::new(Some(path), problems));
            Err(ExitCode::from(2))
        }
    }
}

fn runtime() -> Result<Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::FAILURE
}

/// Copies every record of a store into a new one in `folder`.
async fn copy(url: &Secret, folder: &Path) -> Result<Store, StoreError> {
    let from = Store::open(url).await?;
    let path = folder.join("copy.db");
    let to = Store::open(&Secret::new(format!("sqlite:{}", path.display()))).await?;
    for kind in [Kind::Users, Kind::Keys, Kind::Providers, Kind::Models] {
        let mut after: Option<String> = None;
        loop {
            let page = from.list(kind, after.as_deref(), AT_ONCE).await?;
            let mut puts: Vec<Put<'_>> = Vec::with_capacity(page.len());
            for Record { id, handle, body, .. } in &page {
                puts.push(Put { kind, id, handle: handle.as_deref(), body, after: None });
            }
            to.put_many(&puts, "copy").await?;
            if page.len() < AT_ONCE as usize {
                break;
            }
            after = page.last().map(|record| record.id.clone());
        }
    }
    from.close().await;
    Ok(to)
}

async fn answers(address: SocketAddr) -> bool {
    matches!(timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

fn request(
    method: &str,
    path: &str,
    key: &Secret,
    body: Option<String>,
) -> Result<Request<Bytes>, String> {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = Bytes::from(body.unwrap_or_default());
    request.body(body).map_err(|error| error.to_string())
}

/// One request on a connection of its own.
async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    key: &Secret,
    body: Option<&str>,
) -> Result<(u16, Vec<u8>), std::io::Error> {
    let mut stream = TcpStream::connect(address).await?;
    let key = key.expose();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
    );
    if let Some(body) = body {
        head.push_str("content-type: application/json\r\n");
        let _ = write!(head, "content-length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.unwrap_or_default().as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    split(&answer).ok_or_else(|| std::io::Error::other("what came is no answer of HTTP/1.1"))
}

/// Status and body of an answer that ends with its connection.
fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end)?;
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = body.get(4..)?;
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse::<usize>().ok(),
            // Every answer of the admin listener has a length.
            "transfer-encoding" => return None,
            _ => {}
        }
    }
    let body = match length {
        Some(length) => body.get(..length)?,
        None => body,
    };
    Some((status, body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let split = |text: &str| split(text.as_bytes());
        let whole = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}more";
        assert_eq!(split(whole), Some((404, b"{}".to_vec())));
        assert_eq!(split("HTTP/1.1 200 OK\r\n\r\nrest"), Some((200, b"rest".to_vec())));
        for cut in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}",
            "SSH-2.0\r\n\r\n",
        ] {
            assert_eq!(split(cut), None, "{cut}");
        }
    }
}
