//! Logins with clouds: each provider that has one is kept logged in, ahead of need, so that no request
//! waits for a token.
//!
//! What to ask, and what the answer means, is `provider::credentials`' to say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header;
use log::{error, info, warn};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::balance::read_body;
use crate::config;
use crate::provider::{Login, Step, Token, TokenRequest, Unobtained};
use crate::snapshot::Upstream;

/// How long one answer may take, names and connections included.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer read.
const LONGEST: usize = 256 << 10;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 3;
/// Answers that one token may take: an instance of EC2 gives three.
const STEPS: usize = 4;
/// How long the first tokens may keep a configuration from serving.
const FIRST_ROUND: Duration = Duration::from_secs(10);
/// The first pause after a token that did not come, doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A token that is refused is replaced at once, but not more often than this.
const REFUSED_AGAIN: Duration = Duration::from_mins(1);
/// A server that lends for no time to speak of is not asked all the time.
const SHORTEST: Duration = Duration::from_secs(1);

/// The first token of each provider that has none, bounded in time: those that are late come in their
/// own time.
pub async fn first_round(upstreams: &[Arc<Upstream>]) {
    let mut first = JoinSet::new();
    for upstream in upstreams.iter().filter(|it| it.provider.keys.is_absent()) {
        let upstream = Arc::clone(upstream);
        first.spawn(async move {
            if let Some(login) = upstream.provider.login() {
                renew(&upstream, login, true).await;
            }
        });
    }
    let round = async { while first.join_next().await.is_some() {} };
    let _late = timeout(FIRST_ROUND, round).await;
}

/// Keeps a provider logged in, for ever.
pub async fn keep(upstream: &Upstream, login: &Login) {
    let mut pause = AGAIN;
    let mut due = match (login.token(), login.trouble()) {
        (Some(token), _) => next(&token),
        (None, Some(_)) => Some(AGAIN),
        (None, None) => Some(Duration::ZERO),
    };
    let mut replaced: Option<Instant> = None;
    // What was ours from the start is nobody's to renew.
    while let Some(wait) = due {
        let refused = tokio::select! {
            () = sleep(wait) => false,
            () = wanted(login, replaced) => true,
        };
        if refused {
            replaced = Some(Instant::now());
        }
        if renew(upstream, login, false).await {
            pause = AGAIN;
            due = login.token().map_or(Some(SHORTEST), |token| next(&token));
            if refused {
                // Whatever the old one was refused for, the new one was not.
                upstream.provider.keys.recheck(0);
            }
        } else {
            due = Some(pause);
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
    std::future::pending::<()>().await;
}

/// How long until another token is to be asked for; `None`: never.
fn next(token: &Token) -> Option<Duration> {
    token.renewed_in(Instant::now()).map(|left| left.max(SHORTEST))
}

/// Waits for the token to be refused, by whoever is asked with it. One that has just taken the place of a
/// refused one stays: a third would fare no better.
async fn wanted(login: &Login, replaced: Option<Instant>) {
    loop {
        login.wanted().await;
        if replaced.is_none_or(|at| at.elapsed() >= REFUSED_AGAIN) {
            return;
        }
    }
}

/// Asks for a token, and puts it into force; what is in force stays if none comes. Whether there is
/// one now. What changes is told, once. `first`: only if there is none.
async fn renew(upstream: &Upstream, login: &Login, first: bool) -> bool {
    let _one = login.asking().await;
    if first && login.is_in_force() {
        return true;
    }
    let (name, kind) = (&upstream.provider.name, login.kind());
    match obtain(upstream, login).await {
        Ok(token) => {
            let fresh = !login.is_in_force();
            if login.lend(token) || fresh {
                info!("provider {name}: logged in ({kind})");
            }
            true
        }
        Err(why) => {
            let left = login.token().and_then(|token| token.left(Instant::now()));
            if !login.fails(why.clone()) {
                return false;
            }
            match left {
                Some(left) => {
                    let left = left.as_secs();
                    warn!("provider {name}: its login ({kind}) ends in {left} s: {why}");
                }
                None => error!("provider {name}: not logged in ({kind}), and not called: {why}"),
            }
            false
        }
    }
}

async fn obtain(upstream: &Upstream, login: &Login) -> Result<Token, Unobtained> {
    let given = login.given.clone();
    // Files are read, and a signature is made.
    let first = move || Step::first(&given, config::read_text, SystemTime::now());
    let unfinished = |reason: &str| Unobtained::Unreachable {
        host: login.kind().to_owned(),
        reason: reason.to_owned(),
    };
    let first = tokio::task::spawn_blocking(first).await;
    let mut step = first.map_err(|_| unfinished("nothing could be asked: a bug"))??;
    for _ in 0..STEPS {
        let asking = match step {
            Step::Done(token) => return Ok(token),
            Step::Ask(asking) => asking,
        };
        let request = &asking.request;
        let answer = timeout(DEADLINE, ask(upstream, request)).await;
        let answer = answer.unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, ""));
        let (status, body) = answer.map_err(|error| Unobtained::Unreachable {
            host: request.host(),
            // The kind alone: pingora puts bytes of what a peer said into an error's context.
            reason: error.etype.as_str().to_owned(),
        })?;
        step = asking.next(status, &body, SystemTime::now())?;
    }
    Err(unfinished("it never came to a token"))
}

/// Asks once: status and body.
async fn ask(upstream: &Upstream, request: &TokenRequest) -> Result<(u16, Bytes)> {
    let mut session = connect(upstream, request).await?;
    let target = request.target.as_bytes();
    let mut head = RequestHeader::build(request.method.clone(), target, None)?;
    head.insert_header(header::HOST, request.host())?;
    head.insert_header(header::ACCEPT, "application/json")?;
    head.insert_header(header::USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))?;
    for (name, value) in &request.headers {
        head.insert_header(name.clone(), value.clone())?;
    }
    let body = request.body.clone();
    if request.method != http::Method::GET {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    session.set_read_timeout(Some(DEADLINE));
    session.set_write_timeout(Some(DEADLINE));
    session.write_request_header(Box::new(head)).await?;
    if !body.is_empty() {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session.response_header().map_or(0, |head| head.status.as_u16());
    let body = read_body(&mut session, LONGEST).await?;
    Ok((status, body.into()))
}

/// Connects to the first address of its host that is there.
async fn connect(upstream: &Upstream, request: &TokenRequest) -> Result<HttpSession> {
    let url = &request.url;
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let found = found.or_err(ErrorType::ConnectNoRoute, "looking up the token server")?;
    let connector: Connector = Connector::new(None);
    let mut failed = Error::explain(ErrorType::ConnectNoRoute, "no address");
    // As for replicas: a host without IPv6 would try such an address in vain.
    let (mut addresses, v6): (Vec<SocketAddr>, Vec<_>) = found.partition(SocketAddr::is_ipv4);
    addresses.extend(v6);
    for address in addresses.into_iter().take(ADDRESSES) {
        let peer = upstream.peers.beside(address, url, DEADLINE / 4);
        match connector.get_http_session(&peer).await {
            Ok((session, _)) => return Ok(session),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
