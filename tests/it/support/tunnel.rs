//! A WebSocket both of whose ends the test plays itself.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::client::{Client, Connection};
use super::http1::Head;
use super::within;

/// A provider's side, played by the test.
pub struct Provider {
    listener: TcpListener,
    pub address: String,
}

/// A tunnel through the gateway.
pub struct Tunnel {
    pub client: Connection,
    pub provider: Connection,
}

impl Provider {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    /// The next handshake. Other calls, as for the list of models, are dropped.
    pub async fn accept(&self) -> (Connection, Head) {
        loop {
            let (stream, _) = within("a call", self.listener.accept()).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut connection = Connection::over(stream);
            let head = connection.head().await;
            if head.get("upgrade").is_some() {
                return (connection, head);
            }
        }
    }

    /// A tunnel for the model `m`.
    pub async fn tunnel(&self, client: &Client) -> Tunnel {
        let mut client = handshake(client, "?model=m").await;
        let (mut provider, _) = self.accept().await;
        provider.send(ACCEPTED).await;
        assert_eq!(client.head().await.word(1), "101");
        Tunnel { client, provider }
    }
}

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
    connection: upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Asks for a WebSocket.
pub async fn handshake(client: &Client, query: &str) -> Connection {
    let request = client.request("GET", &format!("/v1/realtime{query}"));
    let request = request
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "realtime");
    let mut connection = client.connect().await;
    connection.send(request.head()).await;
    connection
}

/// Waits for these bytes, and no others.
#[track_caller]
pub fn hear<'a>(side: &'a mut Connection, bytes: &'a [u8]) -> impl Future<Output = ()> + 'a {
    let place = std::panic::Location::caller();
    async move {
        while side.wire.buffer.len() < bytes.len() {
            if within("frames", side.wire.fill()).await.unwrap() == 0 {
                break;
            }
        }
        let heard = side.wire.buffer.split_to(bytes.len().min(side.wire.buffer.len()));
        assert_eq!(heard, bytes, "{place}");
    }
}

/// Everything up to the end of the connection.
pub async fn hear_out(side: &mut Connection) -> Vec<u8> {
    within("the end of the connection", side.wire.closed()).await;
    side.wire.buffer.split().to_vec()
}

/// Says that nothing more comes.
pub async fn leave(side: &mut Connection) {
    side.wire.io.shutdown().await.unwrap();
}

/// What a close frame says: its status and its reason, unmasked.
pub fn closing(frame: &[u8]) -> (u16, String) {
    assert_eq!(frame[0], 0x88, "no close frame: {frame:?}");
    let length = usize::from(frame[1] & 0x7f);
    let payload = if frame[1] & 0x80 == 0 {
        frame[2..].to_vec()
    } else {
        let mask = frame[2..6].iter().cycle();
        frame[6..].iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
    };
    assert_eq!(payload.len(), length, "one close frame, and nothing behind it: {frame:?}");
    let status = u16::from_be_bytes([payload[0], payload[1]]);
    (status, String::from_utf8(payload[2..].to_vec()).unwrap())
}
