//! A moderator's word on a request's texts, asked for before anything of them reaches an upstream.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use serde::Deserialize;
use serde_json::json;

use super::Gateway;
use super::abuse;
use super::context::{Body, Context};
use super::refusal::Refusal;
use crate::balance::read_body;
use crate::config::{Moderation, Moderator, OnError, Url};
use crate::protocol::{Piece, texts};
use crate::provider::sensitive;
use crate::snapshot::Snapshot;

/// The longest answer read.
const LONGEST: usize = 1 << 20;
/// How long the addresses of its name are taken for granted.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// How long a connection to it is kept without use; uvicorn closes its own after 5 s.
const IDLE: Duration = Duration::from_secs(3);
/// Connections that are tried: a kept one may have been closed meanwhile.
const TRIES: usize = 2;
/// It is told once in so long that it does not answer.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is known of the moderator. One per process.
#[derive(Default)]
pub struct Moderators {
    connector: OnceLock<Connector>,
    found: ArcSwapOption<Addresses>,
    told: ArcSwapOption<Instant>,
}

struct Addresses {
    host: String,
    port: u16,
    at: Instant,
    list: Vec<SocketAddr>,
}

/// Where to ask, and with what.
struct Place<'s> {
    url: &'s Url,
    target: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    peer: Box<dyn Fn(SocketAddr) -> HttpPeer + Send + Sync + 's>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    flagged: bool,
    #[serde(default)]
    category_scores: HashMap<String, f64>,
}

/// Refuses what a moderator does not let pass, or what it does not judge when that is to be refused.
pub async fn moderate(
    ctx: &Context,
    gateway: &Gateway,
    terms: &Moderation,
) -> std::result::Result<(), Refusal> {
    let Body::Json { bytes, .. } = &ctx.body else { return Ok(()) };
    let judged = match question(bytes, terms)? {
        Question::Nothing => return Ok(()),
        Question::TooLong => Error::e_explain(ErrorType::Custom("TooLong"), ""),
        Question::Ask(body) => {
            let asking = ask(&gateway.moderators, &ctx.snapshot, terms, body);
            match tokio::time::timeout(terms.timeout, asking).await {
                Ok(judged) => judged,
                Err(_) => Error::e_explain(ErrorType::ReadTimedout, ""),
            }
        }
    };
    match judged {
        Ok(answer) if answer.results.iter().any(|verdict| counts(verdict, terms)) => {
            abuse::take(ctx, gateway, "moderation", "", &terms.measure).await
        }
        Ok(_) => Ok(()),
        Err(error) => {
            let open = terms.on_error == OnError::Open;
            abuse::count(gateway, "moderation", "", if open { "open" } else { "closed" });
            tell(&gateway.moderators, &error);
            if open { Ok(()) } else { Err(Refusal::not_moderated()) }
        }
    }
}

enum Question {
    /// The request has no text.
    Nothing,
    TooLong,
    Ask(Bytes),
}

fn question(body: &[u8], terms: &Moderation) -> std::result::Result<Question, Refusal> {
    let (mut inputs, mut length) = (Vec::new(), 0_u64);
    texts(body, &mut |piece| {
        let Piece::Text(text) = piece else { return };
        length = length.saturating_add(text.len() as u64);
        if length <= terms.limit && !text.trim().is_empty() {
            inputs.push(text.to_owned());
        }
    })?;
    if length > terms.limit {
        return Ok(Question::TooLong);
    }
    if inputs.is_empty() {
        return Ok(Question::Nothing);
    }
    let mut asked = json!({ "input": inputs });
    if let (Some(asked), Some(model)) = (asked.as_object_mut(), &terms.model) {
        asked.insert("model".to_owned(), json!(model));
    }
    Ok(Question::Ask(asked.to_string().into()))
}

fn counts(verdict: &Verdict, terms: &Moderation) -> bool {
    if terms.categories.is_empty() {
        return verdict.flagged;
    }
    let reached = |(name, least): &(String, f64)| {
        verdict.category_scores.get(name).is_some_and(|score| score >= least)
    };
    terms.categories.iter().any(reached)
}

async fn ask(
    moderators: &Moderators,
    snapshot: &Snapshot,
    terms: &Moderation,
    body: Bytes,
) -> Result<Answer> {
    let place = place(snapshot, terms)?;
    let addresses = moderators.addresses(place.url).await?;
    let connector = moderators.connector.get_or_init(|| Connector::new(None));
    let mut failed = Error::explain(ErrorType::ConnectNoRoute, "no address");
    for address in &addresses {
        let peer = (place.peer)(*address);
        for _ in 0..TRIES {
            match exchange(connector, &peer, &place, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err((error, reused)) => {
                    failed = error;
                    if !reused {
                        break;
                    }
                }
            }
        }
        if !matches!(failed.etype, ErrorType::ConnectRefused | ErrorType::ConnectTimedout) {
            break;
        }
    }
    Err(failed)
}

/// One exchange; an error comes with whether the connection had been used before.
async fn exchange(
    connector: &Connector,
    peer: &HttpPeer,
    place: &Place<'_>,
    body: Bytes,
) -> std::result::Result<Answer, (Box<Error>, bool)> {
    let (mut session, reused) =
        connector.get_http_session(peer).await.map_err(|error| (error, false))?;
    let exchange = async {
        let mut head = RequestHeader::build("POST", place.target.as_bytes(), None)?;
        head.insert_header(header::HOST, place.url.authority())?;
        head.insert_header(header::ACCEPT, "application/json")?;
        head.insert_header(header::CONTENT_TYPE, "application/json")?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        for (name, value) in &place.headers {
            head.insert_header(name.clone(), value.clone())?;
        }
        session.write_request_header(Box::new(head)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        let answer = read_body(&mut session, LONGEST).await?;
        if status != 200 {
            return Error::e_explain(ErrorType::HTTPStatus(status), "");
        }
        let answer = serde_json::from_slice::<Answer>(&answer).ok();
        let judged = answer.filter(|answer| !answer.results.is_empty());
        judged.ok_or_else(|| Error::explain(ErrorType::Custom("NoVerdict"), ""))
    };
    let answer = exchange.await.map_err(|error| (error, reused))?;
    connector.release_http_session(session, peer, Some(IDLE)).await;
    Ok(answer)
}

fn place<'s>(snapshot: &'s Snapshot, terms: &'s Moderation) -> Result<Place<'s>> {
    let connect = terms.timeout;
    match &terms.at {
        Moderator::Url(url) => {
            let key =
                terms.key.as_ref().and_then(|key| sensitive(&format!("Bearer {}", key.expose())));
            let base = if url.path.is_empty() { "/v1" } else { &url.path };
            let peer = move |address| {
                let name = if url.https { url.host.clone() } else { String::new() };
                let mut peer = HttpPeer::new(address, url.https, name);
                peer.options.total_connection_timeout = Some(connect);
                peer
            };
            Ok(Place {
                url,
                target: format!("{base}/moderations"),
                headers: key.map(|key| (header::AUTHORIZATION, key)).into_iter().collect(),
                peer: Box::new(peer),
            })
        }
        Moderator::Provider(name) => {
            let unknown = || Error::explain(ErrorType::Custom("NoEndpoint"), "");
            let upstream = snapshot.upstreams.iter().find(|it| it.provider.name == *name);
            let upstream = upstream.ok_or_else(unknown)?;
            let provider = &upstream.provider;
            // Its replicas may be found elsewhere; a moderator is asked at a listed address.
            let given = snapshot.config.providers.iter().find(|it| it.name == *name);
            let url = &given.and_then(|it| it.endpoints.first()).ok_or_else(unknown)?.url;
            let model = terms.model.as_deref().unwrap_or_default();
            let key = provider.keys.any().and_then(|key| key.header());
            Ok(Place {
                url,
                target: provider.target(url, "/v1/moderations", None, model),
                headers: provider.headers.iter().cloned().chain(key).collect(),
                peer: Box::new(move |address| upstream.peers.beside(address, url, connect)),
            })
        }
    }
}

/// Says that the moderator does not answer: the kind alone, since pingora puts bytes of what a peer
/// said into an error's context.
fn tell(moderators: &Moderators, error: &Error) {
    let told = moderators.told.load();
    if told.as_ref().is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
        moderators.told.store(Some(Arc::new(Instant::now())));
        log::error!("moderation: requests are not judged: {}", error.etype.as_str());
    }
}

// === impl Moderators ===

impl Moderators {
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>> {
        let known = self.found.load_full().filter(|known| {
            known.host == url.host && known.port == url.port && known.at.elapsed() < KNOWN_FOR
        });
        if let Some(known) = known {
            return Ok(known.list.clone());
        }
        let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
        let found = found.or_err(ErrorType::ConnectNoRoute, "looking up the moderator")?;
        // As for replicas: a host without IPv6 would try such an address in vain.
        let (mut list, v6): (Vec<SocketAddr>, Vec<_>) = found.partition(SocketAddr::is_ipv4);
        list.extend(v6);
        list.truncate(3);
        let (host, port, at) = (url.host.clone(), url.port, Instant::now());
        self.found.store(Some(Arc::new(Addresses { host, port, at, list: list.clone() })));
        Ok(list)
    }
}
