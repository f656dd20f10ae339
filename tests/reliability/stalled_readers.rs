//! Clients that ask for much and read nothing: they cost little memory, and are cut.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::memory::Memory;
use crate::model::{FRONT, Model, front, stream_of};
use crate::sheet::Sheet;
use crate::support::client::CHAT;
use crate::support::gateway::Gateway;
use crate::support::http2::Http2;
use crate::support::until;

const READERS: usize = 100;
/// What each of them is sent.
const ANSWER: usize = 64 << 20;
/// What each of them has room for.
const ROOM: u32 = 4 << 10;

async fn impatient(model: &Model) -> Gateway {
    let yaml = format!("{FRONT}timeouts: {{ client_write: 3s }}\n");
    let gateway = front(&yaml, &[model]).await;
    gateway.client().chat("hi").await.ok();
    gateway
}

/// Waits until every one was cut, and books what that took.
async fn book(mut sheet: Sheet, model: &Model, gateway: &Gateway, memory: &Memory) {
    until("all of them are answered", || model.answering() == READERS).await;
    until("all of them are cut", || model.large().len() == READERS).await;
    gateway.counts("forebay_active_requests", 0).await;
    let health = gateway.health().await;
    let large = model.large();
    let whole = large.iter().filter(|answer| answer.whole).count();
    let waited = large.iter().map(|answer| answer.ended - answer.moved).max().unwrap();
    sheet.none("readers that were not cut", whole as u64);
    sheet.at_most(
        "cut after the last byte was taken, s (client_write: 3 s)",
        4.0,
        waited.as_secs_f64(),
    );
    sheet.measured_at_most("memory for 100 readers, MiB", 64.0, memory.grown());
    sheet.none("upstream requests left under way", model.answering() as u64);
    let in_flight = health["providers"][0]["replicas"][0]["in_flight"].as_u64().unwrap();
    sheet.none("requests in flight by the gateway's count", in_flight);
    sheet.hold();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_are_cut_and_cost_little() {
    let sheet = Sheet::of("stalled_readers");
    let model = Model::start();
    let gateway = impatient(&model).await;
    let memory = Memory::mark(&gateway);
    let request = gateway.client().post(CHAT, stream_of(ANSWER)).bytes();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(ROOM).unwrap();
        let mut stream = socket.connect(gateway.address).await.unwrap();
        stream.write_all(&request).await.unwrap();
        readers.push(stream);
    }
    book(sheet, &model, &gateway, &memory).await;
}

/// Over HTTP/2 it is the window of a stream that fills up, while the connection is read from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_streams_that_nobody_reads_are_cut_and_cost_little() {
    let sheet = Sheet::of("stalled_readers, HTTP/2");
    let model = Model::start();
    let gateway = impatient(&model).await;
    let memory = Memory::mark(&gateway);
    let (mut connections, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..READERS / 10 {
        let mut http2 = Http2::connect(gateway.address).await;
        for _ in 0..10 {
            readers.push(http2.post(CHAT, stream_of(ANSWER)).await);
        }
        connections.push(http2);
    }
    book(sheet, &model, &gateway, &memory).await;
}
