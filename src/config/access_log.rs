//! The `access_log` section: a line for each request, and where it goes.

use std::path::PathBuf;

use super::read::Value;

/// A line for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    pub format: LogFormat,
    /// The file it is appended to; `None` is standard output.
    pub to: Option<PathBuf>,
    /// When a new file is begun.
    pub rotate: Rotate,
    /// Files that are kept beside the one that is written to; the oldest go first.
    pub keep: usize,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// When a new file is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotate {
    Never,
    /// With the first line of a day (UTC).
    Daily,
    /// Before it would have more bytes than this.
    Size(u64),
}

// === impl AccessLog ===

impl AccessLog {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            format: s
                .read("format", |v| {
                    v.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
                })
                .unwrap_or(LogFormat::Text),
            to: s.read("to", destination).filter(|path| !path.as_os_str().is_empty()),
            rotate: s.read("rotate", Rotate::read).unwrap_or(Rotate::Daily),
            keep: s.read("keep", |v| v.number(1, 10_000)).unwrap_or(7),
        })
    }
}

/// Reads a path; that of standard output is empty, which can be written by nobody.
fn destination(value: Value) -> Option<PathBuf> {
    match value.node.as_text() {
        Some("stdout" | "-") => Some(PathBuf::new()),
        _ => value.path(),
    }
}

// === impl Rotate ===

impl Rotate {
    fn read(value: Value) -> Option<Self> {
        match value.node.as_text() {
            Some("daily") => Some(Self::Daily),
            Some("off") => Some(Self::Never),
            Some(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                value.size().map(Self::Size)
            }
            _ => value.must_be("`daily`, a size such as 100MiB, or `off`"),
        }
    }
}
