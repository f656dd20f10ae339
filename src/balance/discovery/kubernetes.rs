//! Replicas that are the pods of a Kubernetes service: its `EndpointSlice`s, listed once and watched
//! from there, over the API server's plain HTTP and JSON.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use log::{info, warn};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::super::peer::read_authorities;
use super::super::question::read_body;
use super::names::Names;
use super::slices::{List, Slices, Told};
use crate::config::{Dns, Kubernetes, Url, read_text};

/// How long a page of the list may take in all.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
/// How long one watch goes on: then another one goes on from where it ended. A connection that died
/// without a word is noticed after that.
const WATCH: Duration = Duration::from_secs(45);
/// … and how long the API server may take to end it.
const SLACK: Duration = Duration::from_secs(10);
/// The first pause after a failure, doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Slices on a page, and pages taken.
const PAGE: usize = 100;
const PAGES: usize = 8;
/// The largest page, and the longest line of a watch.
const LONGEST: usize = 8 << 20;

/// A service of a cluster, and its pods as far as is known.
pub struct Cluster {
    provider: String,
    pub given: Kubernetes,
    names: Names,
    connector: OnceLock<Connector>,
    /// `None` until the slices were listed, and after what was known has become too old to go on.
    slices: Mutex<Option<Slices>>,
}

/// A pod as it was found: what the service is called, and where the pod is.
pub struct Pods {
    pub host: String,
    pub addresses: Vec<SocketAddr>,
}

/// Why a watch ended.
enum End {
    /// Its time was over.
    Over,
    /// Everything has to be listed anew.
    Gone,
}

impl Cluster {
    pub fn new(provider: &str, given: &Kubernetes) -> Self {
        Self {
            provider: provider.to_owned(),
            given: given.clone(),
            names: Names::new(provider, &Dns::default()),
            connector: OnceLock::new(),
            slices: Mutex::new(None),
        }
    }

    /// The pods that take requests. They are asked for only when nothing is known yet: from then on
    /// the watch tells.
    pub async fn pods(&self) -> Result<Pods, String> {
        let namespace = self.namespace().await?;
        let known = self.held().as_ref().map(Slices::addresses);
        let addresses = match known {
            Some(addresses) => addresses,
            None => self.list(&namespace).await?,
        };
        Ok(Pods { host: format!("{}.{namespace}.svc", self.given.service), addresses })
    }

    /// Follows the slices and tells of each change, for ever. While the API server is away, what
    /// was known last stays.
    pub async fn watch(&self, changed: &Notify) {
        let (mut pause, mut told) = (AGAIN, false);
        loop {
            let began = Instant::now();
            match self.turn(changed).await {
                Ok(()) => {
                    if told {
                        info!("provider {}: the API server answers again", self.provider);
                    }
                    (pause, told) = (AGAIN, false);
                    // One that ends each watch at once is not asked all the time.
                    sleep(AGAIN.saturating_sub(began.elapsed())).await;
                }
                Err(why) => {
                    if !told {
                        warn!("provider {}: its pods are not followed: {why}", self.provider);
                    }
                    told = true;
                    let jitter = rand::random_range(0.5..1.0);
                    sleep(pause.mul_f64(jitter)).await;
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Lists, if that is needed, and watches until that ends.
    async fn turn(&self, changed: &Notify) -> Result<(), String> {
        let namespace = self.namespace().await?;
        if self.held().is_none() {
            self.list(&namespace).await?;
            changed.notify_one();
        }
        match self.follow(&namespace, changed).await? {
            End::Over => {}
            End::Gone => *self.held() = None,
        }
        Ok(())
    }

    /// Lists the slices, page by page; what was known gives way only to all of them.
    async fn list(&self, namespace: &str) -> Result<Vec<SocketAddr>, String> {
        let (mut slices, mut more) = (Slices::default(), String::new());
        for _ in 0..PAGES {
            let page = timeout(DEADLINE, self.page(namespace, &more)).await;
            let page = page.unwrap_or_else(|_| Err("no answer in time".to_owned()))?;
            match slices.take(page, self.given.port.as_ref()) {
                Some(next) => more = next,
                None => break,
            }
        }
        let addresses = slices.addresses();
        *self.held() = Some(slices);
        Ok(addresses)
    }

    async fn page(&self, namespace: &str, more: &str) -> Result<List, String> {
        let more = percent_encoding::utf8_percent_encode(more, percent_encoding::NON_ALPHANUMERIC);
        let query = format!("limit={PAGE}&continue={more}");
        let mut session = self.ask(namespace, &query, DEADLINE).await?;
        let body = read_body(&mut session, LONGEST).await.map_err(|error| plain(&error))?;
        serde_json::from_slice(&body).map_err(|_| "its list is none".to_owned())
    }

    async fn follow(&self, namespace: &str, changed: &Notify) -> Result<End, String> {
        let version = self.held().as_ref().map(|it| it.version().to_owned()).unwrap_or_default();
        let seconds = WATCH.as_secs();
        let query = format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}"
        );
        let opened = timeout(DEADLINE, self.ask(namespace, &query, WATCH + SLACK)).await;
        let mut session = match opened.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Err(why) if why == GONE => return Ok(End::Gone),
            session => session?,
        };
        let reading = async {
            let mut rest: Vec<u8> = Vec::new();
            while let Some(chunk) =
                session.read_response_body().await.map_err(|error| plain(&error))?
            {
                if rest.len().saturating_add(chunk.len()) > LONGEST {
                    return Err("a line that is too long".to_owned());
                }
                rest.extend_from_slice(&chunk);
                match self.hear(&mut rest) {
                    Told::Changed => changed.notify_one(),
                    Told::Nothing => {}
                    Told::Gone => return Ok(End::Gone),
                    Told::Failed(why) => return Err(why),
                }
            }
            Ok(End::Over)
        };
        // A server that neither ends the watch nor says anything has had its time.
        timeout(WATCH + SLACK, reading).await.unwrap_or(Ok(End::Over))
    }

    /// Takes in every line that is whole, and leaves the rest.
    fn hear(&self, rest: &mut Vec<u8>) -> Told {
        let Some(end) = memchr::memrchr(b'\n', rest) else { return Told::Nothing };
        let begun = rest.split_off(end.saturating_add(1));
        let lines = std::mem::replace(rest, begun);
        let mut held = self.held();
        let Some(slices) = held.as_mut() else { return Told::Gone };
        let mut outcome = Told::Nothing;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
        {
            match slices.hear(line, self.given.port.as_ref()) {
                Told::Nothing => {}
                Told::Changed => outcome = Told::Changed,
                end => return end,
            }
        }
        outcome
    }

    /// Asks for the service's slices; gives the answer with its body yet to come.
    async fn ask(
        &self,
        namespace: &str,
        query: &str,
        patience: Duration,
    ) -> Result<HttpSession, String> {
        let api = &self.given.api;
        let service = &self.given.service;
        let target = format!(
            "{}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3D{service}&{query}",
            api.path
        );
        let peer = self.peer(api).await?;
        let mut head =
            RequestHeader::build("GET", target.as_bytes(), None).map_err(|error| plain(&error))?;
        let mut insert = |name: &'static str, value: HeaderValue| {
            head.insert_header(name, value).map_err(|error| plain(&error))
        };
        let sendable = |text: String| {
            HeaderValue::try_from(text).map_err(|_| "what cannot stand in a header".to_owned())
        };
        insert("host", sendable(api.authority())?)?;
        insert("accept", HeaderValue::from_static("application/json"))?;
        insert(
            "user-agent",
            HeaderValue::from_static(concat!("forebay/", env!("CARGO_PKG_VERSION"))),
        )?;
        // It is another one every hour.
        let token = text_of(&self.given.token_file).await?;
        let mut token = sendable(format!("Bearer {}", token.trim()))?;
        token.set_sensitive(true);
        insert("authorization", token)?;
        let connector = self.connector.get_or_init(|| Connector::new(None));
        let (mut session, _) =
            connector.get_http_session(&peer).await.map_err(|error| plain(&error))?;
        session.set_read_timeout(Some(patience));
        session.set_write_timeout(Some(CONNECT));
        session.write_request_header(Box::new(head)).await.map_err(|error| plain(&error))?;
        session.finish_request_body().await.map_err(|error| plain(&error))?;
        session.read_response_header().await.map_err(|error| plain(&error))?;
        match session.response_header().map_or(0, |head| head.status.as_u16()) {
            200 => Ok(session),
            410 => Err(GONE.to_owned()),
            status @ (401 | 403) => {
                Err(format!("{status}: the service account may not list endpointslices there"))
            }
            status => Err(format!("the API server says {status}")),
        }
    }

    async fn peer(&self, api: &Url) -> Result<HttpPeer, String> {
        let found = self.names.addresses(&api.host).await;
        let ip = found.ips.first().ok_or_else(|| format!("{} has no address", api.host))?;
        let server_name = if api.https { api.host.clone() } else { String::new() };
        let mut peer = HttpPeer::new(SocketAddr::new(*ip, api.port), api.https, server_name);
        peer.options.connection_timeout = Some(CONNECT);
        peer.options.total_connection_timeout = Some(CONNECT.saturating_mul(2));
        if api.https {
            let path = self.given.ca_file.clone();
            let read = tokio::task::spawn_blocking(move || read_authorities(&path)).await;
            let read = read.map_err(|_| "its authorities cannot be read: a bug".to_owned())?;
            peer.options.ca = Some(read.map_err(|error| error.to_string())?.into());
        }
        Ok(peer)
    }

    async fn namespace(&self) -> Result<String, String> {
        if let Some(given) = &self.given.namespace {
            return Ok(given.clone());
        }
        let text = text_of(&self.given.namespace_file).await?;
        let name = text.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err("the file of the own namespace names none".to_owned());
        }
        Ok(name.to_owned())
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Slices>> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said when the version to go on from is forgotten.
const GONE: &str = "410";

async fn text_of(path: &Path) -> Result<String, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_text(&path)).await;
    read.map_err(|_| "it cannot be read: a bug".to_owned())?.map_err(|error| error.to_string())
}

/// The kind of an error alone: pingora puts bytes of what a peer said into its context.
fn plain(error: &pingora::Error) -> String {
    error.etype.as_str().to_owned()
}
