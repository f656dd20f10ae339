//! A stretch of wire between the gateway and a server, which a test can cut or block.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes on between an address of its own and a server.
pub struct Relay {
    pub address: SocketAddr,
    target: String,
    blocked: watch::Sender<bool>,
    wire: Option<JoinSet<()>>,
}

impl Relay {
    /// In front of the server at `target`, `host:port`.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut relay = Self {
            address,
            target: target.to_owned(),
            blocked: watch::Sender::new(false),
            wire: None,
        };
        relay.serve(listener);
        relay
    }

    /// Ends every connection, and refuses new ones.
    pub async fn cut(&mut self) {
        if let Some(mut wire) = self.wire.take() {
            wire.shutdown().await;
        }
    }

    /// As it was before the cut.
    pub async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// Whether bytes are held back: connections stay, and nothing is heard of them.
    pub fn block(&self, blocked: bool) {
        self.blocked.send_replace(blocked);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (target, blocked) = (self.target.clone(), self.blocked.subscribe());
        let mut wire = JoinSet::new();
        wire.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (target, blocked) = (target.clone(), blocked.clone());
                connections.spawn(async move {
                    let Ok(far) = TcpStream::connect(&target).await else { return };
                    let (from_near, to_near) = near.into_split();
                    let (from_far, to_far) = far.into_split();
                    let there = pass(from_near, to_far, blocked.clone());
                    let back = pass(from_far, to_near, blocked);
                    tokio::select! { () = there => {}, () = back => {} }
                });
            }
        });
        self.wire = Some(wire);
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut blocked: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let free = blocked.wait_for(|blocked| !blocked).await.is_ok();
        if !free || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
