//! A server's publisher of KV events, as vLLM has one: a `ZeroMQ` PUB socket, by hand.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::until;

/// Publishes to whoever has subscribed; gone when dropped.
pub struct Publisher {
    shared: Arc<Shared>,
    /// The number of the next message.
    next: AtomicU64,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Vec<u8>>>>,
    subscribed: AtomicUsize,
}

/// Publishes at this address.
pub fn on(listener: TcpListener) -> Publisher {
    let (shared, mut server) = (Arc::new(Shared::default()), JoinSet::new());
    server.spawn(serve(listener, Arc::clone(&shared)));
    Publisher { shared, next: AtomicU64::new(0), _server: server }
}

/// Listeners on one port of each of these addresses.
pub async fn same_port<const N: usize>(ips: [&str; N]) -> (u16, [TcpListener; N]) {
    loop {
        let first = TcpListener::bind((ips[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for ip in &ips[1..] {
            listeners.extend(TcpListener::bind((*ip, port)).await);
        }
        if let Ok(listeners) = listeners.try_into() {
            return (port, listeners);
        }
    }
}

impl Publisher {
    pub async fn wait_for_subscriber(&self) {
        until("a subscriber", || self.shared.subscribed.load(SeqCst) > 0).await;
    }

    /// Publishes a message of these events.
    pub fn say(&self, events: &[Value]) {
        let number = self.next.fetch_add(1, SeqCst);
        let events = rmp_serde::to_vec(&json!([1.5, events, 0])).unwrap();
        let mut message = b"\x01\x00\x01\x08".to_vec();
        message.extend(number.to_be_bytes());
        message.push(2);
        message.extend(u64::try_from(events.len()).unwrap().to_be_bytes());
        message.extend(events);
        let subscribers = self.shared.subscribers.lock().unwrap();
        for subscriber in subscribers.iter() {
            drop(subscriber.send(message.clone()));
        }
    }

    /// A message that nobody gets.
    pub fn lose_one(&self) {
        self.next.fetch_add(1, SeqCst);
    }

    /// Ends all connections.
    pub fn hang_up(&self) {
        self.shared.subscribed.store(0, SeqCst);
        self.shared.subscribers.lock().unwrap().clear();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(publish(stream, Arc::clone(&shared)));
    }
}

async fn publish(mut stream: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    stream.read_exact(&mut greeting).await?;
    stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB").await?;
    // What a subscriber says: that it is ready, and what it wants.
    let mut ready = [0; 27];
    stream.read_exact(&mut ready).await?;
    let mut wish = [0; 2];
    stream.read_exact(&mut wish).await?;
    let mut topic = vec![0; usize::from(wish[1])];
    stream.read_exact(&mut topic).await?;
    let (sender, mut messages) = mpsc::unbounded_channel();
    shared.subscribers.lock().unwrap().push(sender);
    shared.subscribed.fetch_add(1, SeqCst);
    while let Some(message) = messages.recv().await {
        stream.write_all(&message).await?;
    }
    Ok(())
}
