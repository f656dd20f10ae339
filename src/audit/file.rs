//! Rows as lines of JSON, in a file or on the standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::row::Row;

/// A file of lines. It is opened anew when it was moved away, by `logrotate` for one.
pub struct Lines {
    path: PathBuf,
    file: Option<File>,
    told: bool,
}

// === impl Lines ===

impl Lines {
    /// `-` is the standard output.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, told: false }
    }

    /// Writes lines; `false` when they could not be written.
    pub fn write(&mut self, rows: &[Row]) -> bool {
        let mut text = Vec::with_capacity(rows.len() * 768);
        for row in rows {
            if serde_json::to_writer(&mut text, row).is_ok() {
                text.push(b'\n');
            }
        }
        let written = self.put(&text);
        if let Err(error) = &written
            && !std::mem::replace(&mut self.told, true)
        {
            log::error!("the audit's lines cannot be written: {}", error.kind());
        }
        self.told &= written.is_err();
        written.is_ok()
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        if self.path.as_os_str() == "-" {
            return io::stdout().lock().write_all(text);
        }
        if self.file.is_none() || !self.path.exists() {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            self.file = Some(options.open(&self.path)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_a_line_also_after_the_file_was_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut lines = Lines::new(&path);
        let row = Row { id: "a".into(), ..Row::default() };
        assert!(lines.write(&[row.clone(), row.clone()]));
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        assert!(lines.write(std::slice::from_ref(&row)));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Row>(text.trim_end()).unwrap(), row);
        assert!(!Lines::new(folder.path()).write(&[row]));
    }
}
