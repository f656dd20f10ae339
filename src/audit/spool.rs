//! Rows on the disk, for as long as the database is away: files that are only appended to, of frames
//! with a length and a checksum. A process has files of its own, which are locked; the files of one
//! that is gone are delivered by whoever finds them.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::row::Row;

/// A file is given up for the next one at this size, in bytes.
const SEGMENT: u64 = 16 << 20;
/// Of a frame: its length and its CRC-32, both little-endian.
const HEAD: usize = 8;
/// The longest frame that can be one.
const LONGEST: usize = 16 << 20;
/// What is read at once, in bytes.
const PORTION: usize = 1 << 20;
const SUFFIX: &str = "spool";

/// Rows that wait.
pub struct Spool {
    folder: PathBuf,
    /// What this process calls its files.
    node: String,
    /// The most that all files of this process may hold.
    most: u64,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    next: u64,
}

struct Segment {
    path: PathBuf,
    file: Flock<File>,
    /// Where what is whole ends.
    length: u64,
    /// How far it has been delivered.
    read: u64,
    /// It is this process's own, and may grow.
    own: bool,
}

/// Why rows cannot wait here.
#[derive(Debug, thiserror::Error)]
pub enum Unspooled {
    #[error("the spool is full")]
    Full,
    #[error("the spool cannot be written: {}", .0.kind())]
    Io(#[from] io::Error),
}

// === impl Spool ===

impl Spool {
    /// A spool that has nothing yet: files are made when they are needed.
    pub fn new(folder: &Path, node: &str, most: u64) -> Self {
        let (folder, node) = (folder.to_owned(), node.to_owned());
        Self { folder, node, most, segments: VecDeque::new(), next: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|segment| segment.read >= segment.length)
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length.saturating_sub(segment.read)).sum()
    }

    /// Takes in what processes that are gone have left. How many files there were.
    pub fn adopt(&mut self) -> usize {
        let Ok(entries) = fs::read_dir(&self.folder) else { return 0 };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX));
        paths.retain(|path| !self.segments.iter().any(|known| known.path == *path));
        paths.sort();
        let mut found = 0;
        for path in paths {
            let Some(segment) = Segment::adopt(path) else { continue };
            // Behind the first, of which rows may be on their way.
            self.segments.insert(usize::from(!self.segments.is_empty()), segment);
            found += 1;
        }
        found
    }

    /// Writes rows, and returns when the disk has them.
    pub fn append(&mut self, rows: &[Row]) -> Result<(), Unspooled> {
        let mut frames = Vec::with_capacity(rows.len() * 512);
        for row in rows {
            let Ok(text) = serde_json::to_vec(row) else { continue };
            let Ok(length) = u32::try_from(text.len()) else { continue };
            frames.extend_from_slice(&length.to_le_bytes());
            frames.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
            frames.extend_from_slice(&text);
        }
        if self.waiting().saturating_add(frames.len() as u64) > self.most {
            return Err(Unspooled::Full);
        }
        let grows = self.segments.back().is_some_and(|it| it.own && it.length < SEGMENT);
        if !grows {
            let segment = self.begin()?;
            self.segments.push_back(segment);
        }
        let Some(segment) = self.segments.back_mut() else { return Err(Unspooled::Full) };
        let written = segment.append(&frames);
        if written.is_err() {
            // What there is of it is a torn tail; the next rows begin another file.
            segment.own = false;
        }
        Ok(written?)
    }

    /// The oldest rows, some of them, and what to tell [`Spool::advance`] once they are delivered.
    pub fn peek(&mut self) -> Result<(Vec<Row>, u64), io::Error> {
        while let Some(first) = self.segments.front_mut() {
            if first.read < first.length {
                return first.peek();
            }
            if first.own && self.segments.len() == 1 {
                break;
            }
            self.drop_first();
        }
        Ok((Vec::new(), 0))
    }

    /// What was peeked at is delivered.
    pub fn advance(&mut self, bytes: u64) {
        let Some(first) = self.segments.front_mut() else { return };
        first.read = first.read.saturating_add(bytes);
        if first.read >= first.length {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.segments.pop_front()
            && let Err(error) = fs::remove_file(&first.path)
        {
            log::warn!("a file of the audit's spool cannot be removed: {}", error.kind());
        }
    }

    fn begin(&mut self) -> io::Result<Segment> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        let (path, file) = loop {
            self.next += 1;
            let path = self.folder.join(format!("{}-{:06}.{SUFFIX}", self.node, self.next));
            match options.open(&path) {
                // Another spool of this process has made it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => break (path, file?),
            }
        };
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, no)| no)?;
        // The file's name has to be on the disk as well as its bytes.
        File::open(&self.folder)?.sync_all()?;
        Ok(Segment { path, file, length: 0, read: 0, own: true })
    }
}

// === impl Segment ===

impl Segment {
    /// A file that nobody has locked.
    fn adopt(path: PathBuf) -> Option<Self> {
        let file = OpenOptions::new().read(true).append(true).open(&path).ok()?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
        let length = file.seek(SeekFrom::End(0)).ok()?;
        Some(Self { path, file, length, read: 0, own: false })
    }

    fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        fault!("audit::spool", |_| Err(io::ErrorKind::StorageFull.into()));
        self.file.write_all(frames)?;
        self.file.sync_data()?;
        self.length += frames.len() as u64;
        Ok(())
    }

    /// Rows behind what was read, and the bytes they take. A frame that is not whole ends the file: its
    /// process ended while it wrote it.
    fn peek(&mut self) -> io::Result<(Vec<Row>, u64)> {
        let left = usize::try_from(self.length.saturating_sub(self.read)).unwrap_or(usize::MAX);
        let mut portion = PORTION;
        loop {
            let mut bytes = vec![0; left.min(portion)];
            self.file.seek(SeekFrom::Start(self.read))?;
            self.file.read_exact(&mut bytes)?;
            let (rows, taken) = frames(&bytes);
            if taken > 0 {
                return Ok((rows, taken as u64));
            }
            if bytes.len() == left {
                return Ok((Vec::new(), left as u64));
            }
            // One frame that is longer than a portion.
            portion = portion.saturating_add(LONGEST);
        }
    }
}

/// Whole frames, up to what they take.
fn frames(bytes: &[u8]) -> (Vec<Row>, usize) {
    let (mut rows, mut taken) = (Vec::new(), 0);
    while let Some((head, rest)) = bytes.get(taken..).and_then(<[u8]>::split_first_chunk::<HEAD>) {
        let [a, b, c, d, sum @ ..] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some(text) = rest.get(..length).filter(|_| length <= LONGEST) else { break };
        if crc32fast::hash(text) != u32::from_le_bytes(sum) {
            break;
        }
        // One that another version wrote, and this one cannot read, keeps nobody waiting.
        match serde_json::from_slice(text) {
            Ok(row) => rows.push(row),
            Err(error) => log::error!("a row of the audit's spool cannot be read: {error}"),
        }
        taken += HEAD + length;
    }
    (rows, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(from: u32, to: u32) -> Vec<Row> {
        let row = |number| Row { id: format!("{number:028x}"), ..Row::default() };
        (from..to).map(row).collect()
    }

    fn drain(spool: &mut Spool) -> Vec<Row> {
        let mut all = Vec::new();
        while !spool.is_empty() {
            let (rows, bytes) = spool.peek().unwrap();
            all.extend(rows);
            spool.advance(bytes);
        }
        all
    }

    #[test]
    fn rows_come_out_in_the_order_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), "a", 1 << 30);
        assert!(spool.is_empty() && spool.peek().unwrap().0.is_empty());
        spool.append(&rows(0, 5)).unwrap();
        spool.append(&rows(5, 9)).unwrap();
        let (some, bytes) = spool.peek().unwrap();
        assert_eq!(some, rows(0, 9));
        assert_eq!(spool.peek().unwrap().0, some, "until they are delivered");
        spool.advance(bytes);
        assert!(spool.is_empty());
        spool.append(&rows(9, 12)).unwrap();
        assert_eq!(drain(&mut spool), rows(9, 12));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn what_a_killed_process_left_is_taken_over_without_its_torn_tail() {
        let folder = tempfile::tempdir().unwrap();
        let mut gone = Spool::new(folder.path(), "a", 1 << 30);
        gone.append(&rows(0, 3)).unwrap();
        let mut spool = Spool::new(folder.path(), "b", 1 << 30);
        assert_eq!(spool.adopt(), 0, "its process lives");
        gone.segments[0].file.write_all(&[9, 0, 0, 0, 1, 2]).unwrap();
        drop(gone);
        assert_eq!((spool.adopt(), spool.adopt()), (1, 0));
        spool.append(&rows(3, 4)).unwrap();
        assert_eq!(drain(&mut spool), rows(0, 4));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_spool_takes_nothing_until_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), "a", 2000);
        let mut kept = 0;
        while spool.append(&rows(kept, kept + 1)).is_ok() {
            kept += 1;
        }
        assert!(kept > 0 && spool.waiting() <= 2000);
        assert_eq!(drain(&mut spool), rows(0, kept));
        spool.append(&rows(0, 1)).unwrap();
    }

    #[test]
    fn a_changed_byte_ends_a_file_and_no_row_is_made_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), "a", 1 << 30);
        spool.append(&rows(0, 1)).unwrap();
        spool.append(&rows(1, 2)).unwrap();
        let path = spool.segments[0].path.clone();
        drop(spool);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() * 3 / 4;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let mut spool = Spool::new(folder.path(), "b", 1 << 30);
        spool.adopt();
        assert_eq!(drain(&mut spool), rows(0, 1));
    }
}
