//! Writes the access log, in the background: whatever becomes of the file, no request waits for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jiff::{Timestamp, tz::TimeZone};
use log::{info, warn};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::{self, Rotate};
use crate::snapshot::Snapshot;
use crate::telemetry::{AccessLog, Line, Metrics};

/// Bytes that are written at once, about.
const AT_ONCE: usize = 64 << 10;
/// How long what cannot be opened is left alone. Lines wait meanwhile, and are dropped when they are too many.
const AGAIN: Duration = Duration::from_secs(1);
/// Names that are tried for a file that is put aside.
const NAMES: u32 = 1000;

/// The one who writes.
pub struct LogWriter {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub log: Arc<AccessLog>,
    pub metrics: Arc<Metrics>,
}

/// What is written to, as long as it is what the configuration says.
struct Open {
    given: config::AccessLog,
    file: File,
    /// Device and inode, of a file that others may put aside; none of what is no ordinary file.
    place: Option<(u64, u64)>,
    /// The day of its lines, since 1970.
    day: i64,
    /// It cannot be put aside, and goes on as it is.
    stays: bool,
}

impl LogWriter {
    /// For ever.
    pub async fn run(&self) {
        let mut queue = self.log.outlet().await;
        let (mut open, mut trouble) = (None, false);
        loop {
            let (batch, lines, leave) = gather(&mut queue).await;
            let wanted = self.snapshot.load().config.access_log.clone();
            if let Some(wanted) = wanted.filter(|_| lines > 0) {
                // It may take for ever: a pipe that nobody reads. The queue fills, and that is all.
                let written = spawn_blocking(move || write(open, wanted, &batch)).await;
                let (now_open, outcome) =
                    written.unwrap_or((None, Err(io::ErrorKind::Other.into())));
                open = now_open;
                self.book(lines, &outcome, &mut trouble);
                if outcome.is_err() && leave.is_none() {
                    sleep(AGAIN).await;
                }
            }
            if let Some(told) = leave {
                let _gone = told.send(());
            }
        }
    }

    /// Counts what was written or lost; what goes wrong is told once, until it is well again.
    fn book(&self, lines: u64, outcome: &io::Result<()>, trouble: &mut bool) {
        match outcome {
            Ok(()) => {
                self.metrics.count_lines("written", lines);
                if std::mem::take(trouble) {
                    info!("the access log is written again");
                }
            }
            Err(error) => {
                self.metrics.count_lines("dropped", lines);
                if !std::mem::replace(trouble, true) {
                    warn!("the access log cannot be written: {error}");
                }
            }
        }
    }
}

/// Waits for lines: what there is, up to a bound; how many they are; and who waits for them to be written.
async fn gather(queue: &mut mpsc::Receiver<Line>) -> (String, u64, Option<oneshot::Sender<()>>) {
    let (mut batch, mut lines) = (String::new(), 0);
    let mut next = queue.recv().await;
    loop {
        match next {
            Some(Line::Text(line)) => {
                batch.push_str(&line);
                lines += 1;
            }
            Some(Line::Leave(told)) => return (batch, lines, Some(told)),
            // The queue lives as long as its owner, who runs this.
            None => std::future::pending().await,
        }
        if batch.len() >= AT_ONCE {
            return (batch, lines, None);
        }
        match queue.try_recv() {
            Ok(line) => next = Some(line),
            Err(_) => return (batch, lines, None),
        }
    }
}

/// Writes whole lines to what the configuration says; what is open afterwards.
fn write(
    open: Option<Open>,
    wanted: config::AccessLog,
    batch: &str,
) -> (Option<Open>, io::Result<()>) {
    let mut open = match ready(open, wanted, batch.len() as u64) {
        Ok(open) => open,
        Err(error) => return (None, Err(error)),
    };
    match open.file.write_all(batch.as_bytes()) {
        Ok(()) => (Some(open), Ok(())),
        Err(error) => (None, Err(error)),
    }
}

/// What is to be written to: opened, or opened anew when it was put aside, by us or by others.
fn ready(open: Option<Open>, wanted: config::AccessLog, more: u64) -> io::Result<Open> {
    let same = open.filter(|open| open.given == wanted && open.is_in_place());
    let mut open = match same {
        Some(open) => open,
        None => Open::new(wanted)?,
    };
    let Some(path) = open.given.to.clone().filter(|_| open.is_over(more)) else { return Ok(open) };
    let given = open.given.clone();
    if let Err(error) = put_aside(&path) {
        log::warn!("the access log cannot be put aside, and goes on: {error}");
        open.stays = true;
        return Ok(open);
    }
    forget_oldest(&path, given.keep);
    Open::new(given)
}

// === impl Open ===

impl Open {
    fn new(given: config::AccessLog) -> io::Result<Self> {
        let Some(path) = &given.to else {
            // Its own handle: nothing of ours is held while a write takes its time.
            let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            return Ok(Self { given, file, place: None, day: today(), stays: false });
        };
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let about = file.metadata()?;
        let place = about.is_file().then(|| (about.dev(), about.ino()));
        let day = if about.len() == 0 { today() } else { day_of(about.modified()?) };
        Ok(Self { given, file, place, day, stays: false })
    }

    /// Whether the file is still the one by its name.
    fn is_in_place(&self) -> bool {
        let (Some(path), Some(place)) = (&self.given.to, self.place) else { return true };
        std::fs::metadata(path).is_ok_and(|about| (about.dev(), about.ino()) == place)
    }

    /// Whether another file is due before so many more bytes.
    fn is_over(&self, more: u64) -> bool {
        let length = || self.file.metadata().map_or(0, |about| about.len());
        self.place.is_some()
            && !self.stays
            && match self.given.rotate {
                Rotate::Never => false,
                Rotate::Daily => self.day != today() && length() > 0,
                Rotate::Size(most) => {
                    let length = length();
                    length > 0 && length.saturating_add(more) > most
                }
            }
    }
}

fn today() -> i64 {
    day_of(SystemTime::now())
}

fn day_of(at: SystemTime) -> i64 {
    Timestamp::try_from(at).map_or(0, |at| at.as_second().div_euclid(86_400))
}

/// Gives a file the time behind its name.
fn put_aside(path: &Path) -> io::Result<()> {
    let now = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    for number in 0..NAMES {
        let aside = beside(path, &format!("{now}-{number:03}"));
        if !aside.exists() {
            return std::fs::rename(path, aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

/// Removes the oldest of the files that were put aside, but for so many. What cannot be removed stays.
fn forget_oldest(path: &Path, keep: usize) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str()))
    else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let aside = |entry: std::fs::DirEntry| {
        let own = entry.file_name();
        let end = own.to_str()?.strip_prefix(name)?.strip_prefix('.')?;
        let ours =
            end.len() == 20 && end.bytes().all(|it| it.is_ascii_digit() || b"TZ-".contains(&it));
        ours.then(|| entry.path())
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| aside(entry.ok()?)).collect();
    // Their names tell their age.
    files.sort_unstable();
    let many = files.len().saturating_sub(keep);
    for file in files.iter().take(many) {
        let _stays = std::fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    fn given(path: &Path, rotate: Rotate, keep: usize) -> config::AccessLog {
        config::AccessLog { format: LogFormat::Text, to: Some(path.to_owned()), rotate, keep }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_begins_before_the_old_one_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(folder.path().join("access.log.notes"), "mine").unwrap();
        let given = given(&path, Rotate::Size(10), 2);
        let mut open = None;
        for line in ["one\n", "two\n", "three\n", "four, which is long\n", "five\n"] {
            let (now, outcome) = write(open, given.clone(), line);
            outcome.unwrap();
            open = now;
        }
        let names = names(folder.path());
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "five\n");
        let read = |name: &String| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let aside: Vec<String> = names.iter().filter(|it| it.contains('Z')).map(read).collect();
        // The first file, with two lines, was the one too many.
        assert_eq!(aside, ["three\n", "four, which is long\n"]);
    }

    #[test]
    fn a_new_file_begins_with_a_new_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, "yesterday\n").unwrap();
        let yesterday = SystemTime::now() - Duration::from_hours(24);
        File::options().append(true).open(&path).unwrap().set_modified(yesterday).unwrap();
        let given = given(&path, Rotate::Daily, 7);
        let (open, outcome) = write(None, given.clone(), "today\n");
        outcome.unwrap();
        let (_open, outcome) = write(open, given, "today too\n");
        outcome.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "today\ntoday too\n");
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn a_file_that_others_have_moved_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let given = given(&path, Rotate::Never, 7);
        let (open, outcome) = write(None, given.clone(), "one\n");
        outcome.unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        let (_open, outcome) = write(open, given, "two\n");
        outcome.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_is_opened_anew() {
        let full = given(Path::new("/dev/full"), Rotate::Size(1), 1);
        let (open, outcome) = write(None, full, "line\n");
        assert!(open.is_none());
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let nowhere = given(Path::new("/dev/null/no/such"), Rotate::Daily, 1);
        assert!(write(None, nowhere, "line\n").1.is_err());
    }
}
