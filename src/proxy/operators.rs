//! What is for operators, where the configuration lets them come through the data listeners.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Request, Response, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::context::Context;
use super::refusal::Refusal;
use super::{Gateway, edge, local, rescue};

/// Whoever answers operators.
pub struct Operators {
    /// Looks at a head first: who may not ask costs no memory.
    pub wants_body: Arc<WantsBody>,
    pub answer: Arc<Answer>,
    /// The longest body, bytes.
    pub largest: usize,
    /// How long a body may take to come.
    pub patience: Duration,
}

/// Whether to read the body of a request with this head from this address; or what to answer without.
pub type WantsBody =
    dyn Fn(&Request<()>, Option<IpAddr>) -> Result<bool, Box<Response<Bytes>>> + Send + Sync;

/// Answers a request that came from this address.
pub type Answer =
    dyn Fn(Request<Bytes>, Option<IpAddr>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync;

/// Hands a request over, with its body, and writes what comes back.
pub async fn answer(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
) -> Result<Option<Refusal>> {
    let Some(operators) = &gateway.operators else {
        let request = session.req_header();
        return Ok(Some(Refusal::unknown_path(request.method.as_str(), request.uri.path())));
    };
    let head = session.req_header();
    let mut request = Request::new(());
    request.method_mut().clone_from(&head.method);
    request.uri_mut().clone_from(&head.uri);
    request.headers_mut().clone_from(&head.headers);
    let peer = session.client_addr().and_then(|address| address.as_inet());
    let proxies = &ctx.snapshot.config.trusted_proxies;
    let from = peer.map(|peer| edge::client(peer.ip(), &head.headers, proxies));
    let body = match (operators.wants_body)(&request, from) {
        Err(refused) => return finish(session, ctx, *refused).await,
        Ok(false) => Bytes::new(),
        Ok(true) => {
            let reading = read(session, operators.largest);
            match tokio::time::timeout(operators.patience, reading).await {
                Ok(Ok(Some(body))) => body,
                Ok(Ok(None)) => return Ok(Some(Refusal::too_large(operators.largest as u64))),
                Ok(Err(error)) => return Err(error),
                Err(_late) => return Ok(Some(Refusal::body_too_slow())),
            }
        }
    };
    let answer = (operators.answer)(request.map(|()| body), from).await;
    finish(session, ctx, answer).await
}

/// Writes an answer. A body that nobody reads passes by: a short one before the answer, so that the
/// connection can live on, a longer one after it.
async fn finish(
    session: &mut Session,
    ctx: &mut Context,
    answer: Response<Bytes>,
) -> Result<Option<Refusal>> {
    let headers = &session.req_header().headers;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // Who waits for `100 Continue` sends nothing more.
    let waits = headers.contains_key(header::EXPECT);
    if session.downstream_session.is_body_done() {
        write(session, ctx, answer).await?;
    } else if waits {
        session.set_keepalive(None);
        write(session, ctx, answer).await?;
    } else if length.is_some_and(|length| length <= rescue::SHORT_BODY) {
        rescue::drain(session).await;
        write(session, ctx, answer).await?;
    } else {
        write(session, ctx, answer).await?;
        rescue::drain(session).await;
    }
    Ok(None)
}

async fn write(session: &mut Session, ctx: &mut Context, answer: Response<Bytes>) -> Result<()> {
    let (parts, body) = answer.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(8))?;
    for (name, value) in &parts.headers {
        if *name != header::CONTENT_LENGTH {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    local::write(session, ctx, head, body).await
}

/// The whole body; `None` when it is too long.
async fn read(session: &mut Session, largest: usize) -> Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_request_body().await? {
        if body.len().saturating_add(piece.len()) > largest {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.freeze()))
}
