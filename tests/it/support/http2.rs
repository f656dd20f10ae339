//! An HTTP/2 client: by prior knowledge, or over what TLS agreed on.

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::http1::Io;
use super::within;
use std::net::SocketAddr;

/// An HTTP/2 connection.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    authority: String,
    _connection: JoinSet<()>,
}

/// An answer that has ended.
#[derive(Debug)]
pub struct Reply2 {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer under way.
pub struct Incoming2 {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: RecvStream,
}

impl Http2 {
    /// Over a plain connection, by prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, &address.to_string()).await
    }

    pub async fn over(io: impl Io + 'static, authority: &str) -> Self {
        let handshake = h2::client::Builder::new().initial_window_size(1 << 20).handshake(io);
        let (sender, connection) = within("the HTTP/2 handshake", handshake).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _closed = connection.await;
        });
        Self { sender, authority: authority.to_owned(), _connection: tasks }
    }

    /// Sends a head; the body is to be sent, and the answer to be waited for.
    pub async fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (SendStream<Bytes>, impl Future<Output = Incoming2> + use<>) {
        let mut request = Request::builder().method(method).version(http::Version::HTTP_2);
        request = request.uri(format!("http://{}{path}", self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let ready = within("a stream", self.sender.clone().ready()).await;
        let sent = ready.unwrap().send_request(request.body(()).unwrap(), false);
        let (answer, body) = sent.unwrap();
        let answer = async move {
            let answer = within("the answer's head", answer).await.unwrap();
            let (head, body) = Response::into_parts(answer);
            Incoming2 { status: head.status.as_u16(), headers: head.headers, body }
        };
        (body, answer)
    }

    /// Posts `body`; an error when the stream is reset, or the connection ends.
    pub async fn try_post(
        &mut self,
        path: &str,
        body: String,
    ) -> impl Future<Output = Result<Reply2, h2::Error>> + use<> {
        let uri = format!("http://{}{path}", self.authority);
        let request = Request::post(uri).version(http::Version::HTTP_2);
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let ready = within("a stream", self.sender.clone().ready()).await;
        let (answer, mut stream) = ready.unwrap().send_request(request, false).unwrap();
        async move {
            send_all(&mut stream, body.into()).await;
            let (head, body) = Response::into_parts(within("the answer's head", answer).await?);
            let (status, headers) = (head.status.as_u16(), head.headers);
            let mut answer = Incoming2 { status, headers, body };
            let mut whole = BytesMut::new();
            while let Some(piece) = answer.piece().await {
                whole.extend_from_slice(&piece?);
            }
            let Incoming2 { status, headers, .. } = answer;
            Ok(Reply2 { status, headers, body: whole.freeze() })
        }
    }

    /// Posts `body` in one go, without saying how long it is when `declared` is not asked for.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Incoming2 {
        let json = [("content-type", "application/json")];
        let (mut stream, answer) = self.begin("POST", path, &json).await;
        let body = body.into();
        let sending = async move { send_all(&mut stream, body).await };
        let ((), answer) = tokio::join!(sending, answer);
        answer
    }
}

/// Sends a body as fast as the other side takes it.
pub async fn send_all(stream: &mut SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let granted = within("room to send", std::future::poll_fn(|cx| stream.poll_capacity(cx)));
        // A server that has answered may not want the rest.
        let Some(Ok(granted)) = granted.await else { return };
        let piece = body.split_to(granted.min(body.len()));
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
    let _ended = stream.send_data(Bytes::new(), true);
}

impl Incoming2 {
    pub async fn piece(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let piece = within("more of the answer", self.body.data()).await;
        if let Some(Ok(bytes)) = &piece {
            let _released = self.body.flow_control().release_capacity(bytes.len());
        }
        piece
    }

    /// Everything that is left.
    pub async fn rest(mut self) -> Reply2 {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece().await {
            body.extend_from_slice(&piece.unwrap());
        }
        Reply2 { status: self.status, headers: self.headers, body: body.freeze() }
    }
}
