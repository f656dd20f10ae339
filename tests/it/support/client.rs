//! A client in control of every byte, and conveniences for those who need none.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use super::http1::{Framing, Head, Io, Wire};
use super::secrets;
use super::within;

/// Whom to call, and as whom.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    key: Option<String>,
    /// Where it calls from; anywhere without.
    source: Option<IpAddr>,
}

/// A request to be sent over a connection of its own.
#[derive(Clone)]
pub struct Request {
    client: Client,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    /// The size of the chunks it is sent in; a content-length otherwise.
    chunked: Option<usize>,
}

/// An open connection.
pub struct Connection {
    pub wire: Wire,
}

/// An answer that has ended.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub head: Head,
    pub body: Bytes,
    /// It ended as its head promised, and was not cut.
    pub whole: bool,
}

/// An answer under way.
pub struct Incoming {
    pub status: u16,
    pub head: Head,
    connection: Connection,
    framing: Framing,
    buffer: BytesMut,
    /// Once it is known how it ended: properly?
    pub whole: Option<bool>,
}

/// A chat request with this text, for the model `m`.
pub fn chat_body(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

/// … that asks for a stream.
pub fn stream_body(text: &str) -> Value {
    json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": text}]})
}

pub const CHAT: &str = "/v1/chat/completions";

// === impl Client ===

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, key: None, source: None }
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        secrets::note(key);
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// … that calls from this address of this machine.
    #[must_use]
    pub fn at(&self, source: &str) -> Self {
        Self { source: Some(source.parse().unwrap()), ..self.clone() }
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        let bearer = |key: &String| ("authorization".to_owned(), format!("Bearer {key}"));
        Request {
            client: self.clone(),
            method: method.to_owned(),
            target: target.to_owned(),
            headers: self.key.iter().map(bearer).collect(),
            body: Bytes::new(),
            chunked: None,
        }
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.request("GET", target).send().await
    }

    /// Posts JSON.
    pub fn post(&self, target: &str, body: impl Into<Bytes>) -> Request {
        self.request("POST", target).header("content-type", "application/json").body(body)
    }

    /// Asks the model `m`.
    pub async fn chat(&self, text: &str) -> Reply {
        self.post(CHAT, chat_body(text).to_string()).send().await
    }

    /// Asks the model `m` for a stream.
    pub async fn stream(&self, text: &str) -> Incoming {
        self.post(CHAT, stream_body(text).to_string()).open().await
    }

    pub async fn connect(&self) -> Connection {
        let connection = self.try_connect().await;
        connection.unwrap_or_else(|error| panic!("{}: {error}", self.address))
    }

    async fn try_connect(&self) -> io::Result<Connection> {
        let stream = match self.source {
            None => TcpStream::connect(self.address).await,
            Some(source) => {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((source, 0).into()).unwrap();
                socket.connect(self.address).await
            }
        };
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(Connection::over(stream))
    }
}

// === impl Request ===

impl Request {
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sends the body in chunks of this size.
    #[must_use]
    pub fn chunked(self, size: usize) -> Self {
        Self { chunked: Some(size), ..self }
    }

    /// The head as it is sent.
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.extend(["host: ", &self.client.address.to_string(), "\r\n"]);
        }
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let given = self.headers.iter().any(|(name, _)| name == "content-length");
        match self.chunked {
            Some(_) => head.push_str("transfer-encoding: chunked\r\n"),
            None if given || (self.body.is_empty() && self.method != "POST") => {}
            None => head.extend(["content-length: ", &self.body.len().to_string(), "\r\n"]),
        }
        head + "\r\n"
    }

    /// All of it, as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        match self.chunked {
            None => bytes.extend_from_slice(&self.body),
            Some(size) => {
                for piece in self.body.chunks(size) {
                    bytes.extend_from_slice(&chunk(piece));
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }

    /// Sends it and waits for the whole answer.
    pub async fn send(&self) -> Reply {
        self.open().await.rest().await
    }

    /// Sends it and waits for the whole answer; `None` when nobody listens, or the connection ends before
    /// its head.
    pub async fn try_send(&self) -> Option<Reply> {
        let mut connection = self.client.try_connect().await.ok()?;
        let _sent = within("sending", connection.wire.send(&self.bytes())).await;
        let head = within("the answer's head", connection.wire.head()).await.ok()??;
        Some(connection.body_of(head).await)
    }

    /// Sends it and waits for the head of the answer.
    pub async fn open(&self) -> Incoming {
        let mut connection = self.client.connect().await;
        // A server that refuses may close before it has read everything: its answer counts.
        let _sent = within("sending", connection.wire.send(&self.bytes())).await;
        connection.answer().await
    }

    /// Sends it and looks at no answer.
    pub async fn begin(&self) -> Connection {
        let mut connection = self.client.connect().await;
        connection.wire.send(&self.bytes()).await.unwrap();
        connection
    }

    /// Sends it over an open connection, which can be used again.
    pub async fn over(&self, connection: &mut Connection) -> Reply {
        connection.wire.send(&self.bytes()).await.unwrap();
        connection.reply().await
    }
}

/// Bytes as a chunk of a chunked body.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

// === impl Connection ===

impl Connection {
    pub fn over(io: impl Io + 'static) -> Self {
        Self { wire: Wire::new(Box::new(io)) }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.wire.send(bytes.as_ref())).await.unwrap();
    }

    /// The next head, whatever its status.
    pub async fn head(&mut self) -> Head {
        let head = within("the answer's head", self.wire.head()).await;
        head.unwrap_or_else(|error| panic!("no head: {error}")).expect("closed before a head")
    }

    /// The next final head, with its body to come.
    pub async fn answer(mut self) -> Incoming {
        let head = self.head().await;
        let status = status(&head);
        let framing = framing(&head);
        Incoming { status, head, connection: self, framing, buffer: BytesMut::new(), whole: None }
    }

    /// The next answer, whole.
    pub async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        self.body_of(head).await
    }

    async fn body_of(&mut self, head: Head) -> Reply {
        let (mut framing, mut pieces) = (framing(&head), Vec::new());
        let ended = loop {
            match within("the answer's body", self.wire.piece(&mut framing)).await {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Reply::new(head, &pieces, ended)
    }
}

fn status(head: &Head) -> u16 {
    head.word(1).parse().unwrap_or_else(|_| panic!("no status: {head:?}"))
}

fn framing(head: &Head) -> Framing {
    match status(head) {
        100..=199 | 204 | 304 => Framing::Length(0),
        _ => head.framing().unwrap_or(Framing::UntilClose),
    }
}

// === impl Incoming ===

impl Incoming {
    /// The next bytes; `None` at the end, proper or not.
    pub async fn piece(&mut self) -> Option<Bytes> {
        let read = self.connection.wire.piece(&mut self.framing);
        match within("more of the answer", read).await {
            Ok(Some(piece)) => Some(piece),
            Ok(None) => {
                self.whole = Some(true);
                None
            }
            Err(_) => {
                self.whole = Some(false);
                None
            }
        }
    }

    /// The next event or comment without its blank line; `None` at the end.
    pub async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event = self.buffer.split_to(end + 2);
                return Some(String::from_utf8_lossy(&event[..end]).into_owned());
            }
            match self.piece().await {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() => return None,
                None => panic!("the stream ends within an event: {:?}", self.buffer),
            }
        }
    }

    /// The next event that is no comment.
    pub async fn data(&mut self) -> Option<String> {
        loop {
            let event = self.event().await?;
            if !event.starts_with(':') {
                return Some(event);
            }
        }
    }

    /// Everything that is left.
    pub async fn rest(mut self) -> Reply {
        let mut pieces = vec![self.buffer.split().freeze()];
        pieces.retain(|piece| !piece.is_empty());
        while let Some(piece) = self.piece().await {
            pieces.push(piece);
        }
        Reply::new(self.head, &pieces, self.whole == Some(true))
    }
}

// === impl Reply ===

impl Reply {
    pub fn new(head: Head, pieces: &[Bytes], whole: bool) -> Self {
        let status = status(&head);
        Self { status, head, body: pieces.concat().into(), whole }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Expects a good answer, ended properly.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!((self.status, self.whole), (200, true), "{self:?}");
        self
    }

    /// What the model said.
    #[track_caller]
    pub fn said(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let text = self.json()["choices"][0]["message"]["content"].as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("nothing said: {self:?}"))
    }

    /// Expects an error in OpenAI's shape; its `error` object.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{self:?}");
        assert!(error["message"].as_str().is_some_and(|said| !said.is_empty()), "{self:?}");
        assert!(error["type"].is_string(), "{self:?}");
        assert!(error.as_object().unwrap().contains_key("param"), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        assert!(self.whole, "{self:?}");
        error
    }

    /// The data of its events, comments left out.
    pub fn events(&self) -> Vec<String> {
        let text = self.text();
        let events = text.split("\n\n").filter(|event| !event.is_empty());
        let data = events.filter_map(|event| event.strip_prefix("data: "));
        data.map(str::to_owned).collect()
    }

    /// The contents of a chat stream, joined.
    pub fn streamed(&self) -> String {
        let events = self.events();
        let chunks = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let content =
            |chunk: Value| chunk["choices"][0]["delta"]["content"].as_str()?.to_owned().into();
        chunks.filter_map(content).collect::<Vec<String>>().concat()
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(3000).collect();
        write!(f, "{:?}\n\n{text}\n(whole: {})", self.head, self.whole)
    }
}
