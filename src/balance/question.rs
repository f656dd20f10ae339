//! One request of the gateway's own to a provider, and its answer, whole and bounded.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

/// Where to ask.
pub struct Question {
    pub peer: HttpPeer,
    pub host: String,
    pub target: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What to ask for, and how much of it is read.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// The content type.
    pub accept: &'static str,
    /// How long its silence may last.
    pub patience: std::time::Duration,
    /// The longest answer read, in bytes.
    pub longest: usize,
}

impl Question {
    /// Asks with `GET`. Anything but 200 is an error. The session is the caller's to keep, or to drop.
    pub async fn ask(
        &self,
        connector: &Connector,
        wanted: Wanted,
    ) -> Result<(HttpSession, Vec<u8>)> {
        let request = RequestHeader::build("GET", self.target.as_bytes(), None)?;
        self.send(connector, wanted, request, Bytes::new()).await
    }

    /// Asks with `POST` and a body of JSON, else in the same way.
    pub async fn ask_with(
        &self,
        connector: &Connector,
        wanted: Wanted,
        body: Bytes,
    ) -> Result<(HttpSession, Vec<u8>)> {
        let mut request = RequestHeader::build("POST", self.target.as_bytes(), None)?;
        request.insert_header("content-type", "application/json")?;
        request.insert_header("content-length", body.len())?;
        self.send(connector, wanted, request, body).await
    }

    async fn send(
        &self,
        connector: &Connector,
        wanted: Wanted,
        mut request: RequestHeader,
        body: Bytes,
    ) -> Result<(HttpSession, Vec<u8>)> {
        request.insert_header("host", &self.host)?;
        request.insert_header("accept", wanted.accept)?;
        for (name, value) in &self.headers {
            request.insert_header(name.clone(), value.clone())?;
        }
        let (mut session, _) = connector.get_http_session(&self.peer).await?;
        session.set_read_timeout(Some(wanted.patience));
        session.set_write_timeout(Some(wanted.patience));
        session.write_request_header(Box::new(request)).await?;
        if !body.is_empty() {
            session.write_request_body(body, true).await?;
        }
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        if status != 200 {
            return Error::e_explain(ErrorType::HTTPStatus(status), "asking a provider");
        }
        let body = read_body(&mut session, wanted.longest).await?;
        Ok((session, body))
    }
}

/// The body of an answer whose head is read; an error when it is longer than that.
pub async fn read_body(session: &mut HttpSession, longest: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = session.read_response_body().await? {
        if body.len().saturating_add(chunk.len()) > longest {
            return Error::e_explain(ErrorType::ReadError, "an answer that is too long");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
