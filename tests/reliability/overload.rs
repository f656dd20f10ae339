//! More uploads at once than there is memory for: those beyond are told so at once, and no more.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::memory::Memory;
use crate::model::{FRONT, Model, front};
use crate::sheet::{Sheet, count, milliseconds};
use crate::support::PATIENCE;
use crate::support::client::{CHAT, Client, chat_body};

const UPLOADS: usize = 200;
const SIZE: usize = 20 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_beyond_the_memory_are_refused_at_once() {
    let mut sheet = Sheet::of("overload");
    let model = Model::start();
    let yaml = format!("{FRONT}limits: {{ buffered: 64MiB, connections_per_ip: 1000 }}\n");
    let gateway = front(&yaml, &[&model]).await;
    gateway.client().chat("warm").await.ok();
    let memory = Memory::mark(&gateway);

    let (stop, stopped) = watch::channel(false);
    let alive = tokio::spawn(alive(gateway.client(), stopped));
    let body = Bytes::from(chat_body(&"x".repeat(SIZE)).to_string());
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut connections = Vec::new();
    for _ in 0..UPLOADS {
        connections.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    let mut uploads = JoinSet::new();
    for connection in connections {
        uploads.spawn(upload(connection, head.clone(), body.clone()));
    }
    let answers = uploads.join_all().await;
    stop.send_replace(true);
    let slowest = alive.await.unwrap();

    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.refused).collect();
    assert!(
        served > 0 && refused.len() > UPLOADS / 2,
        "{served} served, {} refused",
        refused.len()
    );
    let mut after: Vec<_> = refused.iter().map(|answer| answer.after).collect();
    after.sort_unstable();
    sheet.none(
        &format!(
            "of {UPLOADS} uploads, neither 200 ({served}) nor 503 overloaded with Retry-After"
        ),
        (UPLOADS - served - refused.len()) as u64,
    );
    let p95 = after[after.len() * 95 / 100];
    sheet.measured_at_most("503 after the head, p95, ms", 50.0, milliseconds(p95));
    sheet.measured_at_most("/health/live, the slowest answer, ms", 100.0, milliseconds(slowest));
    sheet.measured_at_most("memory in all, MiB", 256.0, memory.most());
    gateway.counts("forebay_buffered_bytes", 0).await;
    sheet.at_most("requests that reached the upstream", count(served), count(model.asked()) - 1.0);
    sheet.hold();
}

/// How an upload was answered.
struct Answer {
    status: u16,
    /// With all that a caller needs to try again.
    refused: bool,
    /// From the head's last byte to the answer's first.
    after: Duration,
}

async fn upload(mut connection: TcpStream, head: String, body: Bytes) -> Answer {
    connection.write_all(head.as_bytes()).await.unwrap();
    let sent = Instant::now();
    let (mut reading, mut writing) = connection.split();
    let read = async {
        let mut answer = vec![0; 4096];
        let read = timeout(2 * PATIENCE, reading.read(&mut answer)).await;
        answer.truncate(read.unwrap().unwrap_or(0));
        (answer, sent.elapsed())
    };
    tokio::pin!(read);
    // An answer may come before the body is through; nobody sends on after it.
    let sending = async {
        let _cut = writing.write_all(&body).await;
        std::future::pending::<()>().await;
    };
    let (answer, after) =
        tokio::select! { read = &mut read => read, () = sending => unreachable!() };
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let refused =
        status == 503 && text.contains("\r\nretry-after: ") && text.contains("overloaded");
    Answer { status, refused, after }
}

/// Asks whether the gateway lives until told to stop; how long the slowest answer took.
async fn alive(client: Client, stopped: watch::Receiver<bool>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !*stopped.borrow() {
        let begun = Instant::now();
        client.get("/health/live").await.ok();
        slowest = slowest.max(begun.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    slowest
}
