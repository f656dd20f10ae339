//! The one who writes: takes records from the queue, and sees that each gets into the database once.
//!
//! Rows go straight into the database. When it does not take them at once they go to the spool, and from
//! there in order when it is back: a row that came twice is there once, by its id.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::archive::{Archives, Untidy};
use super::file::Lines;
use super::queue::{Audit, Item, now};
use super::row::Row;
use super::spool::{Spool, Unspooled};
use super::table::Table;
use crate::config::{self, Secret};

/// How long records gather, and how many at most: one commit for all of them.
const GATHER: Duration = Duration::from_millis(25);
const BATCH: usize = 256;
/// How long the database may take before rows are put onto the disk instead: who is killed then has
/// lost no more than this.
const PROMPT: Duration = Duration::from_millis(100);
/// How soon a database that is away is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// … and one that cannot be used as it is.
const MENDED: Duration = Duration::from_secs(10);
/// How often a full spool is told of.
const TELL: Duration = Duration::from_mins(1);

/// What is to be written where. Another one is begun when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub audit: config::Audit,
    /// `None`: rows go into no database.
    pub url: Option<Secret>,
    pub spool: PathBuf,
}

/// Writes what the queue has.
pub struct Clerk<'a> {
    audit: &'a Audit,
    given: Given,
    spool: Mutex<Spool>,
    /// The spool has something in it.
    spooled: Notify,
    lines: Option<Mutex<Lines>>,
    told: Mutex<Option<Instant>>,
}

/// Why the clerk takes what there is.
enum Next {
    Filled,
    /// Somebody waits for it.
    Asked(Option<oneshot::Sender<()>>),
    Stop,
}

// === impl Clerk ===

impl<'a> Clerk<'a> {
    pub fn new(audit: &'a Audit, given: Given) -> Self {
        let spool = Spool::new(&given.spool, &audit.node(), given.audit.spool.size);
        let lines = given.audit.file.as_deref().map(|file| Mutex::new(Lines::new(file)));
        Self {
            audit,
            given,
            spool: Mutex::new(spool),
            spooled: Notify::new(),
            lines,
            told: Mutex::new(None),
        }
    }

    /// Writes, until it is told to stop: then what has come until then is written.
    pub async fn work(
        &self,
        orders: &AsyncMutex<Receiver<oneshot::Sender<()>>>,
        stop: watch::Receiver<bool>,
    ) {
        let mut orders = orders.lock().await;
        // Rows that come before the database is there wait on the disk.
        let slot = OnceLock::new();
        let behind = async {
            if let Some(url) = &self.given.url {
                let table = self.open(url).await;
                self.audit.attach(Some(table.clone()));
                let table = slot.get_or_init(|| table);
                tokio::join!(self.replay(table), self.look_after(table));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = behind => {}
            () = self.take(&slot, &mut orders, stop) => {}
        }
    }

    /// Another clerk takes over.
    pub fn finish(&self) {
        self.audit.attach(None);
    }

    async fn open(&self, url: &Secret) -> Table {
        let mut told = false;
        loop {
            let error = match Table::open(url).await {
                Ok(table) => return table,
                Err(error) => error,
            };
            if !std::mem::replace(&mut told, true) {
                log::error!("the audit's database cannot be opened: {error}");
            }
            sleep(if error.may_pass() { AGAIN } else { MENDED }).await;
        }
    }

    /// Takes records as they come.
    async fn take(
        &self,
        table: &OnceLock<Table>,
        orders: &mut Receiver<oneshot::Sender<()>>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let next = {
                let stopped = async { stop.wait_for(|stop| *stop).await.is_ok() };
                tokio::select! {
                    () = self.audit.filled() => Next::Filled,
                    order = orders.recv() => Next::Asked(order),
                    _stop = stopped => Next::Stop,
                }
            };
            if matches!(next, Next::Filled) {
                sleep(GATHER).await;
            }
            loop {
                let (items, more) = self.audit.take(BATCH);
                if !items.is_empty() {
                    let rows = rows(items);
                    self.write_lines(&rows);
                    if self.given.audit.webhook.is_some() {
                        self.audit.tell(&rows);
                    }
                    self.deliver(table.get(), &rows).await;
                }
                if !more {
                    break;
                }
            }
            match next {
                Next::Filled => {}
                // Who asked may have given up.
                Next::Asked(done) => drop(done.map(|done| done.send(()))),
                Next::Stop => return,
            }
        }
    }

    fn write_lines(&self, rows: &[Row]) {
        let Some(lines) = &self.lines else { return };
        let written = lines.lock().unwrap_or_else(PoisonError::into_inner).write(rows);
        if !written && self.given.url.is_none() {
            self.lose(rows.len(), "the audit's file cannot be written");
        }
        if written && self.given.url.is_none() {
            self.audit.meters().rows.inc_by(rows.len() as u64);
        }
    }

    /// Into the database, or onto the disk.
    async fn deliver(&self, table: Option<&Table>, rows: &[Row]) {
        if self.given.url.is_none() {
            return;
        }
        let straight = table.filter(|_| self.spool().is_empty());
        if let Some(table) = straight {
            match timeout(PROMPT, table.append(rows)).await {
                Ok(Ok(_)) => {
                    self.audit.meters().rows.inc_by(rows.len() as u64);
                    return self.audit.set_stuck(false);
                }
                Ok(Err(error)) => log::warn!("audit rows wait on the disk: {error}"),
                Err(_late) => log::info!("audit rows wait on the disk: the database is slow"),
            }
        }
        self.put_away(rows);
    }

    fn put_away(&self, rows: &[Row]) {
        let outcome = {
            let mut spool = self.spool();
            let outcome = spool.append(rows);
            self.note_waiting(&spool);
            outcome
        };
        match outcome {
            Ok(()) => self.spooled.notify_one(),
            Err(error) => {
                self.audit.set_stuck(true);
                let why = match error {
                    Unspooled::Full => "the audit's spool is full".to_owned(),
                    Unspooled::Io(error) => format!("the audit's spool: {}", error.kind()),
                };
                self.lose(rows.len(), &why);
            }
        }
    }

    fn lose(&self, rows: usize, why: &str) {
        self.audit.meters().dropped.inc_by(rows as u64);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() > TELL) {
            *told = Some(Instant::now());
            log::error!("{why}: rows are lost, forebay_audit_dropped_total counts them");
        }
    }

    /// Delivers what waits on the disk, for ever.
    async fn replay(&self, table: &Table) {
        self.spool().adopt();
        loop {
            let found = {
                let mut spool = self.spool();
                self.note_waiting(&spool);
                if spool.is_empty() { None } else { Some(spool.peek()) }
            };
            let Some(found) = found else {
                self.spooled.notified().await;
                sleep(AGAIN).await;
                continue;
            };
            let pause = match found {
                Ok((rows, bytes)) => match table.append(&rows).await {
                    Ok(_) => {
                        self.spool().advance(bytes);
                        self.audit.meters().rows.inc_by(rows.len() as u64);
                        self.audit.set_stuck(false);
                        continue;
                    }
                    Err(error) if error.may_pass() => AGAIN,
                    Err(error) => {
                        log::error!("audit rows stay on the disk: {error}");
                        MENDED
                    }
                },
                Err(error) => {
                    log::error!("the audit's spool cannot be read: {}", error.kind());
                    MENDED
                }
            };
            sleep(pause).await;
        }
    }

    /// Sees to archives, to what is over, and to what is to be erased.
    async fn look_after(&self, table: &Table) {
        let archives = Archives::new(table.clone(), self.given.url.as_ref(), &self.given.audit);
        loop {
            let adopted = self.spool().adopt();
            if adopted > 0 {
                log::info!("{adopted} files of audit rows were left by another process");
                self.spooled.notify_one();
            }
            if let Err(error) = self.tidy(&archives, table).await {
                log::warn!("the audit's old rows stay where they are for now: {error}");
            }
            tokio::select! {
                () = sleep(self.given.audit.check_interval) => {}
                () = self.audit.erasure() => {}
            }
        }
    }

    async fn tidy(&self, archives: &Archives, table: &Table) -> Result<(), Untidy> {
        // Rows on the disk belong into the months before them.
        if self.spool().is_empty() {
            for (id, user, at) in table.erasures().await? {
                while table.remove_user(&user, at).await? > 0 {}
                let gone = archives.erase(&user, at)?;
                table.end_erasure(&id).await?;
                log::info!("a user's rows are removed, {gone} of them from archives");
            }
            archives.rotate(now()).await?;
        }
        archives.prune(now()).await
    }

    fn note_waiting(&self, spool: &Spool) {
        let waiting = i64::try_from(spool.waiting()).unwrap_or(i64::MAX);
        self.audit.meters().spool.set(waiting);
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rows(items: Vec<Item>) -> Vec<Row> {
    let row = |Item { id, record, kept }: Item| {
        let mut row = Row::new(id, &record);
        if let Some(kept) = kept {
            let written = kept.write(&record);
            row.metadata = written.metadata;
            row.request = written.request;
            row.response = written.response;
        }
        row
    };
    items.into_iter().map(row).collect()
}
