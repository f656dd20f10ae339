//! Uploads whose model stands after the file: kept on disk until it is known where they go.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pingora::{ErrorType, OrErr, Result};
use tokio::io::AsyncWriteExt;

/// How much is read at a time.
const STRETCH: u64 = 64 << 10;

/// A temporary file that has no name and vanishes with its last handle.
pub struct Spool {
    file: tokio::fs::File,
    length: u64,
}

impl Spool {
    pub async fn create() -> io::Result<Self> {
        let file = tokio::task::spawn_blocking(tempfile::tempfile).await??;
        Ok(Self { file: tokio::fs::File::from_std(file), length: 0 })
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        fault!("proxy::spool", |_| Err(io::ErrorKind::StorageFull.into()));
        self.file.write_all(bytes).await?;
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.length
    }

    /// The file, and its length.
    pub async fn finish(mut self) -> io::Result<(Arc<File>, u64)> {
        self.file.flush().await?;
        Ok((Arc::new(self.file.into_std().await), self.length))
    }
}

/// The beginning of `range`, at most 64 KiB of it.
pub async fn read(file: &Arc<File>, range: Range<u64>) -> Result<Bytes> {
    let length = range.end.saturating_sub(range.start).min(STRETCH);
    let file = Arc::clone(file);
    let read = move || {
        fault!("proxy::read_spool", |_| Err(io::ErrorKind::UnexpectedEof.into()));
        let mut bytes = BytesMut::zeroed(usize::try_from(length).unwrap_or(0));
        file.read_exact_at(&mut bytes, range.start).map(|()| bytes.freeze())
    };
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.or_err(ErrorType::FileReadError, "reading a spooled upload")?;
    read.or_err(ErrorType::FileReadError, "reading a spooled upload")
}
