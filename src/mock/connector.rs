//! The mock inside the gateway's process: a connection that leads to no socket but to the mock
//! itself.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::apps::ServerApp as _;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::watch;

use super::app::App;
use super::options::Options;

/// Bytes on their way in one direction: a writer waits when they are not read.
const PIPE: usize = 64 * 1024;

/// Connects to a mock in this process, whatever the peer's address: for `PeerOptions::custom_l4`.
pub struct Connector {
    app: Arc<App>,
    /// Told to nobody: a mock's connection ends with its one request.
    shutdown: watch::Sender<bool>,
}

impl Connector {
    /// A mock that behaves so, and the way to it.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        // Pingora never takes up a connection without a file descriptor again, so that keeping one
        // open would
        // only fill its pool: one request, one pipe.
        let app = Arc::new(App::new(options).without_keep_alive());
        Arc::new(Self { app, shutdown: watch::Sender::new(false) })
    }
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, _: &SocketAddr) -> pingora::Result<Stream> {
        let (ours, theirs) = duplex(PIPE);
        let app = Arc::clone(&self.app);
        let shutdown = self.shutdown.subscribe();
        // The task ends with its pipe: when the request is answered, or when the other end is
        // dropped.
        tokio::spawn(async move { app.process_new(Box::new(stream(theirs)), &shutdown).await });
        Ok(stream(ours))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("mock")
    }
}

fn stream(pipe: DuplexStream) -> Stream {
    Stream::from(VirtualSocketStream::new(Box::new(Pipe(pipe))))
}

/// One end of a pipe, as pingora's virtual socket.
#[derive(Debug)]
struct Pipe(DuplexStream);

impl VirtualSocket for Pipe {
    /// A pipe has no options.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::connectors::http::v1::Connector as Client;
    use pingora::http::RequestHeader;
    use pingora::protocols::http::v1::client::HttpSession;
    use pingora::upstreams::peer::HttpPeer;
    use serde_json::{Value, json};

    use super::*;

    /// Sends one request through pingora's own connector, as the gateway does.
    async fn send(client: &Client, connector: &Arc<Connector>, body: &Value) -> HttpSession {
        let mut peer = HttpPeer::new("127.0.0.1:1", false, String::new());
        peer.options.custom_l4 = Some(Arc::<Connector>::clone(connector));
        let (mut session, reused) = client.get_http_session(&peer).await.unwrap();
        assert!(!reused);
        let body = body.to_string();
        let mut head = RequestHeader::build("POST", b"/v1/chat/completions", None).unwrap();
        head.insert_header("host", "mock").unwrap();
        head.insert_header("content-length", body.len()).unwrap();
        session.write_request_header(Box::new(head)).await.unwrap();
        session.write_body(body.as_bytes()).await.unwrap();
        session.finish_body().await.unwrap();
        session
    }

    async fn read(session: &mut HttpSession) -> pingora::Result<Vec<u8>> {
        session.read_response().await?;
        let mut body = Vec::new();
        while let Some(chunk) = session.read_body_bytes().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn hello(stream: bool) -> Value {
        json!({"stream": stream, "messages": [{"role": "user", "content": "hello"}]})
    }

    /// Waits for every task of the mock's to end: each holds a receiver.
    async fn all_ended(connector: &Connector) {
        tokio::time::timeout(Duration::from_secs(5), connector.shutdown.closed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_is_answered_without_a_socket() {
        let (client, connector) = (Client::new(None), Connector::new(Options::default()));
        for stream in [false, true, false] {
            let mut session = send(&client, &connector, &hello(stream)).await;
            let body = String::from_utf8(read(&mut session).await.unwrap()).unwrap();
            assert_eq!(session.get_status().unwrap(), 200);
            assert_eq!(stream, body.ends_with("data: [DONE]\n\n"), "{body}");
        }
        all_ended(&connector).await;
    }

    #[tokio::test]
    async fn a_body_larger_than_the_pipe_arrives() {
        let (client, connector) = (Client::new(None), Connector::new(Options::default()));
        let long = "word ".repeat(200_000);
        let body = json!({"messages": [{"role": "user", "content": long}]});
        let reply = read(&mut send(&client, &connector, &body).await).await.unwrap();
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply["usage"]["prompt_tokens"], 200_001);
    }

    #[tokio::test]
    async fn a_cut_stream_breaks_off() {
        let options = Options { fail: "cut:2".parse().ok(), ..Options::default() };
        let (client, connector) = (Client::new(None), Connector::new(options));
        let mut session = send(&client, &connector, &hello(true)).await;
        session.read_response().await.unwrap();
        let mut chunks = 0;
        while let Ok(Some(_)) = session.read_body_bytes().await {
            chunks += 1;
        }
        assert_eq!(chunks, 2);
    }

    #[tokio::test]
    async fn a_hanging_request_ends_when_its_caller_leaves() {
        let options = Options { fail: "hang".parse().ok(), ..Options::default() };
        let (client, connector) = (Client::new(None), Connector::new(options));
        let mut session = send(&client, &connector, &hello(false)).await;
        let answer = tokio::time::timeout(Duration::from_millis(50), session.read_response()).await;
        assert!(answer.is_err());
        drop(session);
        all_ended(&connector).await;
    }
}
