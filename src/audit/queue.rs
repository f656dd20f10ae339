//! Where requests leave their records, and the clerk takes them: bounded, and never waited for.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::Record;
use super::content::Kept;
use super::row::Row;
use super::table::Table;

/// Records that wait at most, and bytes of content.
const ROWS: usize = 8192;
const BYTES: usize = 64 << 20;
/// From here on a strict gateway takes no more requests: those under way need a place.
const NEARLY: usize = ROWS / 2;
/// How long anybody waits for what is on its way to be written.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who waits for that: those are few.
const WAITING: usize = 4;
/// Deliveries that wait to be told, and bytes of one; a row that is longer goes alone.
const DELIVERIES: usize = 64;
const DELIVERY: usize = 256 << 10;

/// The audit, as everybody but its clerk sees it.
pub struct Audit {
    /// Whether records are wanted.
    enabled: AtomicBool,
    queue: Mutex<Queue>,
    /// There is something in the queue.
    filled: Notify,
    /// This process among others.
    node: u32,
    next: AtomicU32,
    /// Neither the database nor the spool takes rows.
    stuck: AtomicBool,
    /// The database, while it is there.
    table: ArcSwapOption<Table>,
    /// Somebody's rows are to go.
    erasures: Notify,
    orders: mpsc::Sender<oneshot::Sender<()>>,
    waiting: Mutex<Option<mpsc::Receiver<oneshot::Sender<()>>>>,
    /// What somebody else is to be told.
    told: mpsc::Sender<Lines>,
    telling: Mutex<Option<mpsc::Receiver<Lines>>>,
    meters: Meters,
}

/// What is told of it.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Rows that were written.
    pub rows: IntCounter,
    /// Rows for which there was no place.
    pub dropped: IntCounter,
    /// Rows that a webhook was not told of.
    pub untold: IntCounter,
    /// Records that wait for the clerk.
    pub queue: IntGauge,
    /// Bytes that wait in the spool.
    pub spool: IntGauge,
}

/// Rows as lines of JSON.
#[derive(Debug, Default)]
pub struct Lines {
    pub text: Bytes,
    pub rows: usize,
}

/// A record on its way.
#[derive(Debug)]
pub struct Item {
    pub id: String,
    pub record: Record,
    pub kept: Option<Box<Kept>>,
}

#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    bytes: usize,
}

// === impl Audit ===

impl Audit {
    pub fn new(meters: Meters) -> Self {
        let (orders, waiting) = mpsc::channel(WAITING);
        let (told, telling) = mpsc::channel(DELIVERIES);
        Self {
            enabled: AtomicBool::new(false),
            queue: Mutex::default(),
            filled: Notify::new(),
            node: rand::random(),
            next: AtomicU32::new(0),
            stuck: AtomicBool::new(false),
            table: ArcSwapOption::empty(),
            erasures: Notify::new(),
            orders,
            waiting: Mutex::new(Some(waiting)),
            told,
            telling: Mutex::new(Some(telling)),
            meters,
        }
    }

    /// Whether records are wanted.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    /// Whether there is a place for another record: in the database, or until that is back.
    pub fn has_room(&self) -> bool {
        !self.stuck.load(Relaxed) && usize::try_from(self.meters.queue.get()).unwrap_or(0) < NEARLY
    }

    /// Takes the record of a request that is over, or counts it as dropped.
    pub fn put(&self, record: Record, kept: Option<Box<Kept>>) {
        let id = self.id();
        let mut item = Item { id, record, kept };
        let mut size = item.kept.as_ref().map_or(0, |kept| kept.size());
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.items.len() >= ROWS {
            drop(queue);
            self.meters.dropped.inc();
            return;
        }
        // Rather no content than no row.
        if queue.bytes.saturating_add(size) > BYTES {
            (item.kept, size) = (None, 0);
        }
        queue.items.push(item);
        queue.bytes += size;
        let first = queue.items.len() == 1;
        drop(queue);
        self.meters.queue.inc();
        if first {
            self.filled.notify_one();
        }
    }

    /// Waits until all that was put before is written or spooled; for a few seconds at most.
    pub async fn flush(&self) {
        if !self.is_enabled() {
            return;
        }
        let (done, told) = oneshot::channel();
        let asked = async {
            if self.orders.send(done).await.is_ok() {
                let _done = told.await;
            }
        };
        if timeout(PATIENCE, asked).await.is_err() {
            log::warn!("the audit's last rows are not written: it took too long");
        }
    }

    /// The database, while it is there.
    pub fn table(&self) -> Option<Table> {
        self.table.load().as_deref().cloned()
    }

    /// An id that no other row has, in order of time.
    pub fn id(&self) -> String {
        let number = self.next.fetch_add(1, Relaxed);
        format!("{}{:08x}{number:08x}", Row::first_id(now()), self.node)
    }

    /// What this process calls its files.
    pub fn node(&self) -> String {
        format!("{:08x}", self.node)
    }

    /// Has the rows of whoever was noted in the database removed.
    pub fn erase(&self) {
        self.erasures.notify_one();
    }

    pub(super) async fn erasure(&self) {
        self.erasures.notified().await;
    }

    /// Says whether records are wanted.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    pub(super) fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Relaxed);
    }

    pub(super) fn attach(&self, table: Option<Table>) {
        self.table.store(table.map(std::sync::Arc::new));
    }

    /// Waits until there is something.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The oldest records, so many at most; whether there are more.
    pub(super) fn take(&self, most: usize) -> (Vec<Item>, bool) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.items.len().min(most);
        let rest = queue.items.split_off(count);
        let items = std::mem::replace(&mut queue.items, rest);
        let size = |item: &Item| item.kept.as_ref().map_or(0, |kept| kept.size());
        queue.bytes = queue.bytes.saturating_sub(items.iter().map(size).sum());
        let more = !queue.items.is_empty();
        drop(queue);
        self.meters.queue.sub(i64::try_from(items.len()).unwrap_or(0));
        (items, more)
    }

    /// What the clerk is asked; `None`: somebody has it.
    pub fn orders(&self) -> Option<mpsc::Receiver<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What somebody else is to be told; `None`: somebody has it.
    pub fn lines(&self) -> Option<mpsc::Receiver<Lines>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Counts rows that nobody else is told of.
    pub fn untold(&self, rows: usize) {
        self.meters.untold.inc_by(rows as u64);
    }

    /// Has somebody else told of rows, if there is room for that.
    pub(super) fn tell(&self, rows: &[Row]) {
        let (mut text, mut count) = (Vec::new(), 0);
        let send = |text: &mut Vec<u8>, rows: usize| {
            let lines = Lines { text: std::mem::take(text).into(), rows };
            if self.told.try_send(lines).is_err() {
                self.untold(rows);
            }
        };
        for row in rows {
            let Ok(line) = serde_json::to_vec(row) else { continue };
            if count > 0 && text.len() + line.len() > DELIVERY {
                send(&mut text, std::mem::take(&mut count));
            }
            text.extend_from_slice(&line);
            text.push(b'\n');
            count += 1;
        }
        if count > 0 {
            send(&mut text, count);
        }
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }
}

/// Unix milliseconds.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn meters() -> Meters {
        let counter = |name| IntCounter::new(name, "test").unwrap();
        let gauge = |name| IntGauge::new(name, "test").unwrap();
        let (rows, dropped, untold) = (counter("r"), counter("d"), counter("u"));
        Meters { rows, dropped, untold, queue: gauge("q"), spool: gauge("s") }
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let audit = Audit::new(meters());
        for _ in 0..ROWS + 3 {
            audit.put(Record::default(), None);
        }
        assert_eq!((audit.meters.dropped.get(), audit.meters.queue.get()), (3, 8192));
        assert!(!audit.has_room());
        audit.filled().await;
        let (some, more) = audit.take(100);
        assert!(some.len() == 100 && more);
        let (rest, more) = audit.take(usize::MAX);
        assert!(rest.len() == ROWS - 100 && !more && audit.has_room());
        let ids: HashSet<String> = some.into_iter().chain(rest).map(|item| item.id).collect();
        assert_eq!(ids.len(), ROWS);
        assert!(ids.iter().all(|id| id.len() == 28));
    }
}
