//! Months that are over: out of the database and into a file of their own, compressed, until their time is
//! over too.
//!
//! A row is in the database, in an archive, or, if a process is killed in between, in both, until the next
//! look removes it from the database. It is never in neither.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use nix::fcntl::{Flock, FlockArg};

use super::row::Row;
use super::table::Table;
use crate::config::{Audit, Retention, Rotation, Secret};
use crate::store::StoreError;

const SUFFIX: &str = ".jsonl.gz";
const DAY: i64 = 86_400_000;
/// Ids that are removed from the database at once.
const PORTION: usize = 500;

/// The archives of one database.
pub struct Archives {
    table: Table,
    /// Where they are, and what their names begin with; `None`: rows stay in the database.
    place: Option<(PathBuf, String)>,
    rotate: Rotation,
    retention: Retention,
}

/// Why old rows stay where they are.
#[derive(Debug, thiserror::Error)]
pub enum Untidy {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an archive: {}", .0.kind())]
    Io(#[from] io::Error),
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Archive {
    /// `2026-10`, or `2026-10-31`.
    period: String,
    path: PathBuf,
}

// === impl Archives ===

impl Archives {
    pub fn new(table: Table, url: Option<&Secret>, audit: &Audit) -> Self {
        let place = url.filter(|_| table.is_file()).and_then(place);
        Self { table, place, rotate: audit.rotate, retention: audit.retention }
    }

    /// Puts what ended before the period under way into archives. How many rows.
    pub async fn rotate(&self, now: i64) -> Result<u64, Untidy> {
        let Some((folder, _)) = &self.place else { return Ok(0) };
        let Some(current) = self.begin(now) else { return Ok(0) };
        let mut moved = 0;
        loop {
            let oldest = self.table.oldest("", current).await?;
            let Some(first) = oldest.first() else { return Ok(moved) };
            // Of several processes, one.
            let Some(_lock) = self.lock(folder)? else { return Ok(moved) };
            let period = self.period(first.ended());
            let end = self.end(first.ended()).min(current);
            for archive in self.list()?.into_iter().filter(|archive| archive.period == period) {
                // A process may have been killed before it had removed them.
                self.remove(&archive.path).await?;
            }
            moved += self.archive(&period, end).await?;
        }
    }

    /// Removes what has been kept long enough.
    pub async fn prune(&self, now: i64) -> Result<(), Untidy> {
        let day = |days: u32| now.saturating_sub(i64::from(days).saturating_mul(DAY));
        let by_days = self.retention.days.map(day);
        let by_count = self.retention.count.and_then(|count| self.back(now, count));
        let moves = self.place.is_some() && self.rotate != Rotation::Off;
        let cutoff = if moves { by_days } else { by_days.max(by_count) };
        if let Some(cutoff) = cutoff {
            while self.table.prune(cutoff).await? > 0 {}
        }
        let Some((folder, _)) = &self.place else { return Ok(()) };
        let archives = self.list()?;
        if archives.is_empty() {
            return Ok(());
        }
        let Some(_lock) = self.lock(folder)? else { return Ok(()) };
        let periods: BTreeSet<&str> = archives.iter().map(|it| it.period.as_str()).collect();
        let most = self.retention.count.map_or(usize::MAX, |count| count as usize);
        let kept: BTreeSet<&str> = periods.into_iter().rev().take(most).collect();
        let mut size: u64 = 0;
        for archive in archives.iter().rev() {
            size = size.saturating_add(fs::metadata(&archive.path)?.len());
            let old = by_days.is_some_and(|cutoff| over(&archive.period) <= cutoff);
            let large = self.retention.size.is_some_and(|most| size > most);
            if old || large || !kept.contains(archive.period.as_str()) {
                fs::remove_file(&archive.path)?;
                log::info!("the audit's archive of {} is removed", archive.period);
            }
        }
        Ok(())
    }

    /// Removes a user's rows that ended before a moment from every archive. How many there were.
    pub fn erase(&self, user: &str, before: i64) -> Result<u64, Untidy> {
        let Some((folder, _)) = &self.place else { return Ok(0) };
        let Some(_lock) = self.lock(folder)? else {
            return Err(StoreError::Busy("another process sees to the archives".to_owned()).into());
        };
        let is_of = |row: &Row| row.user_id.as_deref() == Some(user) && row.ended() < before;
        let mut gone = 0;
        for archive in self.list()? {
            let mut found: u64 = 0;
            let written = Writer::begin(&archive.path)?;
            let mut writer = written;
            for row in read(&archive.path)? {
                let row = row?;
                if is_of(&row) {
                    found += 1;
                } else {
                    writer.push(&row)?;
                }
            }
            if found > 0 {
                writer.end()?;
            } else {
                writer.abandon();
            }
            gone += found;
        }
        Ok(gone)
    }

    /// Archives a period's rows.
    async fn archive(&self, period: &str, end: i64) -> Result<u64, Untidy> {
        let mut rows = self.table.oldest("", end).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let path = self.free(period)?;
        let mut writer = Writer::begin(&path)?;
        let mut count = 0;
        while let Some(last) = rows.last().map(|row| row.id.clone()) {
            for row in &rows {
                writer.push(row)?;
                count += 1;
            }
            rows = self.table.oldest(&last, end).await?;
        }
        writer.end()?;
        fault!("audit::archived", |_| Err(io::Error::other("fault").into()));
        self.remove(&path).await?;
        log::info!("{count} audit rows of {period} are archived");
        Ok(count)
    }

    /// Removes what an archive has from the database.
    async fn remove(&self, path: &Path) -> Result<(), Untidy> {
        let mut ids = Vec::with_capacity(PORTION);
        for row in read(path)? {
            ids.push(row?.id);
            if ids.len() == PORTION {
                self.table.remove(&ids).await?;
                ids.clear();
            }
        }
        self.table.remove(&ids).await?;
        Ok(())
    }

    /// All there are, oldest first.
    fn list(&self) -> io::Result<Vec<Archive>> {
        let Some((folder, stem)) = &self.place else { return Ok(Vec::new()) };
        let mut archives = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let rest = name.strip_prefix(stem.as_str()).and_then(|rest| rest.strip_prefix('-'));
            let Some(rest) = rest.and_then(|rest| rest.strip_suffix(SUFFIX)) else { continue };
            let period = rest.split('.').next().unwrap_or_default();
            if over(period) > 0 {
                archives.push(Archive { period: period.to_owned(), path });
            }
        }
        archives.sort();
        Ok(archives)
    }

    /// A name that no archive has: rows may come late.
    fn free(&self, period: &str) -> io::Result<PathBuf> {
        let Some((folder, stem)) = &self.place else { return Err(io::ErrorKind::NotFound.into()) };
        let name = |number: u32| match number {
            1 => format!("{stem}-{period}{SUFFIX}"),
            more => format!("{stem}-{period}.{more}{SUFFIX}"),
        };
        let mut paths = (1..10_000).map(|number| folder.join(name(number)));
        paths.find(|path| !path.exists()).ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }

    fn lock(&self, folder: &Path) -> io::Result<Option<Flock<File>>> {
        let stem = self.place.as_ref().map_or("", |(_, stem)| stem.as_str());
        let path = folder.join(format!("{stem}.lock"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
    }

    /// When the period under way began.
    fn begin(&self, now: i64) -> Option<i64> {
        let date = date(now);
        match self.rotate {
            Rotation::Off => None,
            Rotation::Daily => Some(midnight(date)),
            Rotation::Monthly => Some(midnight(date.first_of_month())),
        }
    }

    /// When the period began that is `count` before the one under way.
    fn back(&self, now: i64, count: u32) -> Option<i64> {
        let date = date(now);
        match self.rotate {
            Rotation::Off => None,
            Rotation::Daily => Some(midnight(date.saturating_sub(i64::from(count).days()))),
            Rotation::Monthly => {
                Some(midnight(date.first_of_month().saturating_sub(i64::from(count).months())))
            }
        }
    }

    /// When the period of a moment ends.
    fn end(&self, moment: i64) -> i64 {
        over(&self.period(moment))
    }

    fn period(&self, moment: i64) -> String {
        let date = date(moment);
        match self.rotate {
            Rotation::Daily => date.to_string(),
            _ => format!("{:04}-{:02}", date.year(), date.month()),
        }
    }
}

/// Folder and first part of the name, of a database's file.
fn place(url: &Secret) -> Option<(PathBuf, String)> {
    let file = url.expose().strip_prefix("sqlite:")?;
    if file == ":memory:" {
        return None;
    }
    let file = file.strip_prefix("//").unwrap_or(file).split('?').next()?;
    let path = std::path::absolute(file).ok()?;
    let stem = path.file_stem()?.to_str()?.to_owned();
    Some((path.parent()?.to_owned(), stem))
}

fn date(moment: i64) -> Date {
    let moment = Timestamp::from_millisecond(moment).unwrap_or_default();
    moment.to_zoned(TimeZone::UTC).date()
}

/// Unix milliseconds.
fn midnight(date: Date) -> i64 {
    let midnight = date.to_zoned(TimeZone::UTC).ok();
    midnight.map_or(0, |midnight| midnight.timestamp().as_millisecond())
}

/// When a period is over, in Unix milliseconds; 0: it is none.
fn over(period: &str) -> i64 {
    if let Ok(date) = period.parse::<Date>() {
        return midnight(date.saturating_add(1.day()));
    }
    let first = format!("{period}-01").parse::<Date>();
    first.map_or(0, |first| midnight(first.saturating_add(1.month())))
}

/// Rows of an archive.
fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Row>> + use<>> {
    let text = BufReader::new(MultiGzDecoder::new(BufReader::new(File::open(path)?)));
    let rows = serde_json::Deserializer::from_reader(text).into_iter();
    Ok(rows.map(|row| row.map_err(io::Error::from)))
}

/// Writes an archive beside its place, and puts it there once it is whole.
struct Writer {
    to: GzEncoder<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Writer {
    fn begin(path: &Path) -> io::Result<Self> {
        let temporary = path.with_extension("tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&temporary)?;
        let to = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(Self { to, temporary, path: path.to_owned() })
    }

    fn push(&mut self, row: &Row) -> io::Result<()> {
        serde_json::to_writer(&mut self.to, row)?;
        self.to.write_all(b"\n")
    }

    fn end(self) -> io::Result<()> {
        let file = self.to.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    fn abandon(self) {
        let Self { to, temporary, .. } = self;
        drop(to);
        // It is written anew the next time.
        let _removed = fs::remove_file(temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Record;
    use crate::audit::table::Query;

    fn moment(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn row(ended: &str, number: u32, user: &str) -> Row {
        let record = Record { user: Some(user.into()), status: 200, ..Record::default() };
        Row::new(format!("{}{number:016x}", Row::first_id(moment(ended))), &record)
    }

    struct Home {
        folder: tempfile::TempDir,
        table: Table,
        archives: Archives,
    }

    impl Home {
        async fn new(rotate: Rotation, retention: Retention) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite:{}", folder.path().join("audit.db").display());
            let url = Secret::new(url);
            let table = Table::open(&url).await.unwrap();
            let audit = Audit { rotate, retention, ..Audit::default() };
            let archives = Archives::new(table.clone(), Some(&url), &audit);
            Self { folder, table, archives }
        }

        fn names(&self) -> Vec<String> {
            let list = self.archives.list().unwrap().into_iter();
            list.map(|it| it.path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        }

        fn archived(&self) -> Vec<Row> {
            let list = self.archives.list().unwrap().into_iter();
            list.flat_map(|it| read(&it.path).unwrap().map(Result::unwrap)).collect()
        }

        async fn live(&self) -> usize {
            self.table.find(&Query { limit: 1000, ..Query::default() }).await.unwrap().len()
        }
    }

    const ALL: Retention = Retention { count: None, days: None, size: None };

    #[tokio::test]
    async fn at_a_months_end_its_rows_move_and_none_is_lost_or_doubled() {
        let home = Home::new(Rotation::Monthly, ALL).await;
        let mut rows: Vec<Row> =
            (0..700).map(|number| row("2026-10-31T23:59:59Z", number, "ada")).collect();
        rows.push(row("2026-09-30T12:00:00Z", 0, "ada"));
        rows.push(row("2026-11-01T00:00:00Z", 0, "ada"));
        home.table.append(&rows).await.unwrap();
        assert_eq!(home.archives.rotate(moment("2026-10-31T23:59:59Z")).await.unwrap(), 1);
        assert_eq!(home.archives.rotate(moment("2026-11-01T00:00:01Z")).await.unwrap(), 700);
        assert_eq!(home.archives.rotate(moment("2026-11-01T00:00:02Z")).await.unwrap(), 0);
        assert_eq!(home.names(), ["audit-2026-09.jsonl.gz", "audit-2026-10.jsonl.gz"]);
        assert_eq!((home.live().await, home.archived().len()), (1, 701));
        // A row that was still on the disk, and rows of a process that was killed in between.
        home.table.append(&rows[..10]).await.unwrap();
        home.table.append(&[row("2026-10-31T23:59:59Z", 999, "bob")]).await.unwrap();
        assert_eq!(home.archives.rotate(moment("2026-11-02T00:00:00Z")).await.unwrap(), 1);
        assert_eq!((home.live().await, home.archived().len()), (1, 702));
        assert_eq!(home.names().last().unwrap(), "audit-2026-10.jsonl.gz");
        assert!(home.names().contains(&"audit-2026-10.2.jsonl.gz".to_owned()));
    }

    #[tokio::test]
    async fn a_user_is_erased_from_archives_too() {
        let home = Home::new(Rotation::Daily, ALL).await;
        let rows: Vec<Row> = (0..20)
            .map(|number| {
                row("2026-10-31T01:00:00Z", number, if number % 2 == 0 { "ada" } else { "bob" })
            })
            .collect();
        home.table.append(&rows).await.unwrap();
        home.archives.rotate(moment("2026-11-01T00:00:00Z")).await.unwrap();
        let before = moment("2026-11-01T00:00:00Z");
        assert_eq!(home.archives.erase("ada", before).unwrap(), 10);
        assert_eq!(home.archives.erase("ada", before).unwrap(), 0);
        assert!(home.archived().iter().all(|row| row.user_id.as_deref() == Some("bob")));
        assert_eq!(home.names(), ["audit-2026-10-31.jsonl.gz"]);
        assert_eq!(
            fs::read_dir(home.folder.path())
                .unwrap()
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().ends_with("tmp"))
                .count(),
            0
        );
    }

    #[tokio::test]
    async fn archives_go_by_number_by_age_and_by_size() {
        let rows: Vec<Row> = (1..=9)
            .map(|month| row(&format!("2026-{month:02}-15T00:00:00Z"), month, "ada"))
            .collect();
        let now = moment("2026-10-20T00:00:00Z");
        for (retention, left) in [
            (Retention { count: Some(3), ..ALL }, 3),
            (Retention { days: Some(60), ..ALL }, 2),
            (Retention { size: Some(1), ..ALL }, 0),
            (ALL, 9),
        ] {
            let home = Home::new(Rotation::Monthly, retention).await;
            home.table.append(&rows).await.unwrap();
            home.archives.rotate(now).await.unwrap();
            home.archives.prune(now).await.unwrap();
            assert_eq!(home.names().len(), left, "{retention:?}");
        }
        let home = Home::new(Rotation::Off, Retention { days: Some(60), ..ALL }).await;
        home.table.append(&rows).await.unwrap();
        home.archives.rotate(now).await.unwrap();
        home.archives.prune(now).await.unwrap();
        assert_eq!((home.live().await, home.names().len()), (1, 0));
    }
}
