//! Answers recorded from real servers.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::http1::{Framing, Head, Wire};

/// A recorded answer: its head, and its body without its framing.
pub struct Recorded {
    pub name: String,
    pub head: Head,
    pub body: Bytes,
}

/// Every answer recorded from vLLM, by name.
pub async fn vllm() -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vllm");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = files.collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    paths.sort();
    let mut recorded = Vec::new();
    for path in paths {
        recorded.push(read(&path).await);
    }
    assert!(!recorded.is_empty(), "no recordings");
    recorded
}

async fn read(path: &Path) -> Recorded {
    let bytes = std::fs::read(path).unwrap();
    let mut wire = Wire::new(std::io::Cursor::new(bytes));
    let head = wire.head().await.unwrap().unwrap();
    let mut framing = head.framing().unwrap_or(Framing::UntilClose);
    let mut body = Vec::new();
    // A recording may end where the server was killed.
    while let Ok(Some(piece)) = wire.piece(&mut framing).await {
        body.extend_from_slice(&piece);
    }
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    Recorded { name, head, body: body.into() }
}

impl Recorded {
    pub fn is_stream(&self) -> bool {
        self.head.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    pub fn status(&self) -> u16 {
        self.head.word(1).parse().unwrap()
    }
}
