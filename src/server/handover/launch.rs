//! Starts the process that is to take over.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::PREDECESSOR;

/// How this process was started: a new one is started likewise.
#[derive(Clone, Debug)]
pub struct Launch {
    binary: PathBuf,
    arguments: Vec<OsString>,
    folder: Option<PathBuf>,
}

impl Launch {
    /// To be called before anything changes the working directory or replaces the binary: asked
    /// later, Linux would tell of a deleted file.
    pub fn note() -> io::Result<Self> {
        // By the path it was called by: a switched symlink leads to the new binary.
        let called = std::env::args_os().next().map(PathBuf::from);
        let called = called.filter(|path| path.components().count() > 1);
        let binary = called.map_or_else(std::env::current_exe, std::path::absolute)?;
        Ok(Self {
            binary,
            arguments: std::env::args_os().skip(1).collect(),
            folder: std::env::current_dir().ok(),
        })
    }

    /// Starts the new process: same arguments, same environment, same standard error. It belongs to
    /// no terminal, and lives on when this process ends.
    pub fn start(&self, binary: Option<&Path>, control: &Path) -> Result<Child, String> {
        let binary = binary.unwrap_or(&self.binary);
        let mut command = Command::new(binary);
        command.args(&self.arguments).env(PREDECESSOR, control);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(false);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.spawn().map_err(|error| format!("cannot start {}: {error}", binary.display()))
    }
}
