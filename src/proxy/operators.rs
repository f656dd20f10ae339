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
use super::{Gateway, edge, local};

/// Whoever answers operators.
pub struct Operators {
    pub answer: Arc<Answer>,
    /// The longest body, bytes.
    pub largest: usize,
    /// How long a body may take to come.
    pub patience: Duration,
}

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
    let body =
        match tokio::time::timeout(operators.patience, read(session, operators.largest)).await {
            Ok(Ok(Some(body))) => body,
            Ok(Ok(None)) => return Ok(Some(Refusal::too_large(operators.largest as u64))),
            Ok(Err(error)) => return Err(error),
            Err(_late) => return Ok(Some(Refusal::body_too_slow())),
        };
    let head = session.req_header();
    let mut request = Request::new(body);
    request.method_mut().clone_from(&head.method);
    request.uri_mut().clone_from(&head.uri);
    request.headers_mut().clone_from(&head.headers);
    let peer = session.client_addr().and_then(|address| address.as_inet());
    let proxies = &ctx.snapshot.config.trusted_proxies;
    let from = peer.map(|peer| edge::client(peer.ip(), &head.headers, proxies));
    let (parts, body) = (operators.answer)(request, from).await.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(8))?;
    for (name, value) in &parts.headers {
        if *name != header::CONTENT_LENGTH {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    local::write(session, ctx, head, body).await?;
    Ok(None)
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
