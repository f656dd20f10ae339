//! The hand-over: a running server lets a new process take its place, and stops only when that one
//! serves.
//!
//! The running server listens on a control socket (`control`). Asked to upgrade, it starts the
//! binary it was started from (`launch`). The new process connects to the same socket
//! (`predecessor`) and is given the listening sockets, gets ready without accepting anything, and
//! says so. Only then is it told to go on, and the old process stops accepting and drains. Whatever
//! happens to the new process before that, nothing has changed for the old one.

mod control;
mod launch;
mod message;
mod order;
mod predecessor;

use std::io;
use std::path::{Path, PathBuf};

pub use self::control::{Connections, Control, Office};
pub use self::launch::Launch;
pub use self::order::{Refused, upgrade};
pub use self::predecessor::{Following, Predecessor};

/// Names the control socket of the process that started this one to take its place.
const PREDECESSOR: &str = "FOREBAY_PREDECESSOR";
/// The control socket's name in systemd's runtime directory.
const FILE_NAME: &str = "upgrade.sock";
/// Where the packaged unit has it.
const PACKAGED: &str = "/run/forebay/upgrade.sock";

/// The control socket of a server with this `upgrade_sock`: as configured, else in the directory
/// that systemd made for it.
pub fn control_path(configured: Option<&str>) -> Option<PathBuf> {
    if let Some(path) = configured {
        return Some(PathBuf::from(path));
    }
    let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
    let first = std::env::split_paths(&directories).next()?;
    Some(first.join(FILE_NAME))
}

/// Where `forebay upgrade` finds a running server.
pub fn find_control(configured: Option<&str>) -> Option<PathBuf> {
    let packaged = || Some(PathBuf::from(PACKAGED)).filter(|path| path.exists());
    control_path(configured).or_else(packaged)
}

/// The control socket of the process that started this one to take its place.
pub fn predecessor_path() -> Option<PathBuf> {
    std::env::var_os(PREDECESSOR).map(PathBuf::from)
}

/// Makes the folder of the control socket, for its owner alone, unless it is there. Nobody else may
/// be able to put a socket in its place.
pub fn prepare_folder(socket: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let found = std::fs::metadata(folder)?;
    let own = nix::unistd::geteuid().as_raw();
    if found.mode() & 0o022 != 0 || ![0, own].contains(&found.uid()) {
        let message =
            format!("others may write to {}: use a folder of mode 0700", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}
