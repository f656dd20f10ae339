//! One request of the gateway's own to a provider, and its answer, whole and bounded.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};

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
        let (mut session, status) = self.send(connector, wanted, "GET", Bytes::new()).await?;
        read(&mut session, status, wanted).await.map(|body| (session, body))
    }

    /// Asks with `POST` and a body of JSON, else in the same way.
    pub async fn ask_with(
        &self,
        connector: &Connector,
        wanted: Wanted,
        body: Bytes,
    ) -> Result<(HttpSession, Vec<u8>)> {
        let (mut session, status) = self.send(connector, wanted, "POST", body).await?;
        read(&mut session, status, wanted).await.map(|body| (session, body))
    }

    /// Asks with this method and, unless it is empty, this body of JSON, over a connection of its own;
    /// status and answer, whatever they are.
    pub async fn call(&self, wanted: Wanted, method: &str, body: Bytes) -> Result<(u16, Vec<u8>)> {
        let asked = async {
            let connector = Connector::new(None);
            let (mut session, status) = self.send(&connector, wanted, method, body).await?;
            Ok((status, read_body(&mut session, wanted.longest).await?))
        };
        tokio::time::timeout(wanted.patience, asked)
            .await
            .or_err(ErrorType::ReadTimedout, "calling a provider took too long")?
    }

    /// Sends the request and reads the head of its answer: its status.
    async fn send(
        &self,
        connector: &Connector,
        wanted: Wanted,
        method: &str,
        body: Bytes,
    ) -> Result<(HttpSession, u16)> {
        let mut request = RequestHeader::build(method, self.target.as_bytes(), None)?;
        request.insert_header("host", &self.host)?;
        request.insert_header("accept", wanted.accept)?;
        for (name, value) in &self.headers {
            request.insert_header(name.clone(), value.clone())?;
        }
        if method != "GET" {
            request.insert_header("content-length", body.len())?;
        }
        if !body.is_empty() {
            request.insert_header("content-type", "application/json")?;
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
        Ok((session, status))
    }
}

/// The body of a good answer.
async fn read(session: &mut HttpSession, status: u16, wanted: Wanted) -> Result<Vec<u8>> {
    if status != 200 {
        return Error::e_explain(ErrorType::HTTPStatus(status), "asking a provider");
    }
    read_body(session, wanted.longest).await
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
