//! What was counted goes to the store, and what others have counted comes from it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::time::{Instant, timeout};

use super::super::drain::LINGER;
use crate::access::limits::{Limits, Now, Owed};
use crate::ledger::UsageBook;
use crate::store::{Batch, Spent, Store, StoreError};

/// How often what was counted goes to the store.
pub const FLUSH: Duration = Duration::from_millis(250);
/// … while another process takes over, which counts on from it.
const SOON: Duration = Duration::from_millis(50);
/// How long the process before this one may let requests in: on connections that linger.
const BESIDE: Duration = Duration::from_secs(LINGER.as_secs() + 5);
/// How long one exchange may take. Its outcome is unknown then, and it is made again.
const EXCHANGE: Duration = Duration::from_secs(5);
/// How long after a batch that the store does not take the next one is tried.
const PAUSE: Duration = Duration::from_secs(5);
/// Counters that are asked about at once.
const AT_ONCE: usize = 500;
/// Counters, and rows of usage, that go to the store at once: what has gathered while it was away must
/// not be too much for the time an exchange may take.
const PORTION: usize = 1000;

/// What this process owes the store.
pub struct Counts {
    pub limits: Arc<Limits>,
    pub usage: Arc<UsageBook>,
    /// This process among others that use the store.
    pub node: Arc<str>,
    /// Of the last batch.
    sequence: i64,
    /// Batches on their way, a portion each. The first one's outcome may be unknown: it is sent again
    /// as it is, under the same number.
    sending: VecDeque<Sending>,
    /// Another process takes over: it is told of minutes, too, and soon.
    handing_over: bool,
    /// The process before this one may still count: until then its minutes are asked for.
    following: Option<Instant>,
    /// Nothing is sent before.
    not_before: Option<Instant>,
    /// It has been told that the store does not answer.
    told: bool,
}

struct Sending {
    /// Whether it has been sent, and had its number for it.
    sent: bool,
    batch: Batch,
    owed: Vec<Owed>,
}

// === impl Counts ===

impl Counts {
    pub fn new(limits: Arc<Limits>, usage: Arc<UsageBook>, node: Arc<str>) -> Self {
        Self {
            limits,
            usage,
            node,
            sequence: 0,
            sending: VecDeque::new(),
            handing_over: false,
            following: None,
            not_before: None,
            told: false,
        }
    }

    /// From here on the store is told of everything: another process takes over.
    pub fn hand_over(&mut self) {
        self.handing_over = true;
        self.not_before = None;
    }

    /// From here on this process serves beside the one before it.
    pub fn take_over(&mut self) {
        self.following = Some(Instant::now() + BESIDE);
    }

    /// How soon the next exchange is due.
    pub fn pause(&self) -> Duration {
        if self.handing_over { SOON } else { FLUSH }
    }

    /// There is nobody to tell: what was counted stays in memory, what was used is forgotten.
    pub fn forget(&mut self) {
        let owed = self.limits.collect(Now::by_clock());
        self.limits.applied(&owed);
        drop(self.usage.take());
    }

    /// Delivers a portion of what is owed, if anything is, and learns where the same counters stand.
    /// `true`: there is more, and it can be delivered at once.
    pub async fn flush(&mut self, store: &Store) -> bool {
        if self.not_before.is_some_and(|at| Instant::now() < at) || !self.gather() {
            return false;
        }
        let done = match self.send(store).await {
            Ok(counters) => self.learn(store, &counters).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                let more = !self.sending.is_empty();
                if !more && std::mem::take(&mut self.told) {
                    info!("the store has what was owed to it");
                }
                more
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Delivers all that has been owed until now.
    pub async fn flush_all(&mut self, store: &Store) {
        while self.flush(store).await {}
    }

    /// What is owed becomes batches, unless some are still under way. `false`: there is nothing to send.
    fn gather(&mut self) -> bool {
        if !self.sending.is_empty() {
            return true;
        }
        let at = Now::by_clock();
        let mut owed =
            if self.handing_over { self.limits.collect_all(at) } else { self.limits.collect(at) };
        let mut usage = self.usage.take();
        while !owed.is_empty() || !usage.is_empty() {
            let owed_then = owed.split_off(owed.len().min(PORTION));
            let usage_then = usage.split_off(usage.len().min(PORTION));
            let spent = owed.iter().filter(|one| one.spent > 0).map(spent).collect();
            let reserved = owed.iter().map(|one| (one.counter.to_string(), one.reserved)).collect();
            let batch = Batch { spent, reserved, usage };
            self.sending.push_back(Sending { sent: false, batch, owed });
            (owed, usage) = (owed_then, usage_then);
        }
        !self.sending.is_empty()
    }

    /// Sends the first batch. The counters in it of which this process wants to know more, with when
    /// they expire.
    async fn send(&mut self, store: &Store) -> Result<Vec<(String, i64)>, StoreError> {
        let Some(first) = self.sending.front_mut() else { return Ok(Vec::new()) };
        if !std::mem::replace(&mut first.sent, true) {
            self.sequence += 1;
        }
        let flush = store.flush(&self.node, self.sequence, &first.batch);
        let done = timeout(EXCHANGE, flush).await.unwrap_or_else(|_| Err(late()));
        if done.as_ref().is_err_and(StoreError::may_pass) {
            // It may have counted.
            return done.map(|()| Vec::new());
        }
        let Some(Sending { batch, owed, .. }) = self.sending.pop_front() else {
            return Ok(Vec::new());
        };
        if let Err(error) = done {
            self.limits.give_back(&owed);
            self.usage.give_back(batch.usage);
            return Err(error);
        }
        self.limits.applied(&owed);
        let durable = owed.iter().filter(|one| one.durable);
        Ok(durable.map(|one| (one.counter.to_string(), one.expires_at)).collect())
    }

    fn fail(&mut self, error: &StoreError) {
        if !error.may_pass() {
            error!("what was counted cannot be written: {error}");
            self.not_before = Some(Instant::now() + PAUSE);
        } else if !std::mem::replace(&mut self.told, true) {
            warn!("what was counted is kept until the store takes it: {error}");
        }
    }

    /// Learns where these counters stand, with when they expire.
    async fn learn(&self, store: &Store, counters: &[(String, i64)]) -> Result<(), StoreError> {
        for some in counters.chunks(AT_ONCE) {
            let names: Vec<String> = some.iter().map(|(name, _)| name.clone()).collect();
            let totals = timeout(EXCHANGE, store.totals(&self.node, &names)).await;
            let totals = totals.unwrap_or_else(|_| Err(late()))?;
            for ((name, expires_at), total) in some.iter().zip(totals) {
                self.limits.learn(name, total.spent, total.reserved_elsewhere, *expires_at);
            }
        }
        Ok(())
    }

    /// Learns where all counters stand that the store knows.
    pub async fn learn_all(&self, store: &Store) -> Result<(), StoreError> {
        self.learn_some(store, |_| true).await
    }

    /// Learns what the process before this one lets in, for as long as it does.
    pub async fn follow(&mut self, store: &Store) {
        match self.following {
            Some(until) if Instant::now() < until => {
                // Another look follows; the flush tells when the store is away.
                let _learnt = self.learn_some(store, is_of_a_minute).await;
            }
            _ => self.following = None,
        }
    }

    async fn learn_some(
        &self,
        store: &Store,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let counters = timeout(EXCHANGE, store.counters()).await;
        let counters = counters.unwrap_or_else(|_| Err(late()))?;
        let some = counters.into_iter().filter(|(name, ..)| wanted(name));
        let some: Vec<_> = some.map(|(name, _, expires_at)| (name, expires_at)).collect();
        self.learn(store, &some).await
    }
}

/// Budgets and quotas are learnt with each exchange; minutes are not.
fn is_of_a_minute(counter: &str) -> bool {
    counter.contains(":rpm:") || counter.contains(":tpm:")
}

fn spent(owed: &Owed) -> Spent {
    Spent { counter: owed.counter.to_string(), amount: owed.spent, expires_at: owed.expires_at }
}

fn late() -> StoreError {
    StoreError::Away("no answer in time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::limits::{Claim, Subject, Terms, Used as Spent, Who};
    use crate::config::{Allowance, Budget, Period, Secret};
    use crate::ledger::{Used, UsedBy};

    /// Counts of so many keys, and of their usage.
    fn counted(keys: usize) -> (Counts, Vec<Arc<Subject>>) {
        let (limits, usage) = (Limits::new(), Arc::new(UsageBook::new()));
        let budget = Some(Budget { nanos: 1000, period: Period::Total });
        let allowance = Allowance { budget, ..Allowance::default() };
        let terms = Arc::new(Terms { allowance, ..Terms::default() });
        let subject = |number| Subject::new(Who::Key, format!("{number}"), Arc::clone(&terms));
        let subjects: Vec<Arc<Subject>> = (0..keys).map(subject).collect();
        for subject in &subjects {
            let claim = Claim { cost_nanos: 10, ..Claim::default() };
            let held = limits.reserve(&[Arc::clone(subject)], claim, Now::by_clock()).unwrap();
            held.settle(Spent { cost_nanos: 7, ..Spent::default() });
            let by = UsedBy { hour: 1, key: subject.id(), user: "", model: "m", provider: "p" };
            usage.add(by, Used { requests: 1, ..Used::default() });
        }
        (Counts::new(limits, usage, Arc::from("node")), subjects)
    }

    async fn store() -> Store {
        Store::open(&Secret::new("sqlite::memory:")).await.unwrap()
    }

    /// Of all keys together, by the store.
    async fn sums(store: &Store) -> (usize, u64, u64) {
        let counters = store.counters().await.unwrap();
        let query = crate::store::UsageQuery { to: i64::MAX, limit: 10, ..Default::default() };
        let usage = store.usage(&query).await.unwrap();
        let spent = counters.iter().map(|(_, spent, _)| spent).sum();
        (counters.len(), spent, usage.iter().map(|row| row.requests).sum())
    }

    #[tokio::test]
    async fn what_has_gathered_goes_in_portions_and_counts_once() {
        let (mut counts, subjects) = counted(2 * PORTION + 1);
        let store = store().await;
        assert!(counts.flush(&store).await, "more waits");
        assert_eq!(sums(&store).await, (PORTION, 7 * PORTION as u64, PORTION as u64));
        assert!(counts.flush(&store).await && !counts.flush(&store).await);
        let all = subjects.len() as u64;
        assert_eq!(sums(&store).await, (subjects.len(), 7 * all, all));
        assert_eq!(counts.sequence, 3);
        counts.flush_all(&store).await;
        assert_eq!(sums(&store).await, (subjects.len(), 7 * all, all));
        assert!(subjects.iter().all(|subject| subject.reserved() == 0));
    }

    #[tokio::test]
    async fn a_portion_whose_outcome_was_lost_is_sent_again_under_its_number() {
        let (mut counts, subjects) = counted(PORTION + 1);
        let (away, store) = (store().await, store().await);
        away.close().await;
        assert!(!counts.flush(&away).await);
        // It had arrived, as it turns out.
        let first = &counts.sending.front().unwrap().batch;
        store.flush("node", counts.sequence, first).await.unwrap();
        counts.flush_all(&store).await;
        let all = subjects.len() as u64;
        assert_eq!(sums(&store).await, (subjects.len(), 7 * all, all));
        assert_eq!(counts.sequence, 2);
    }
}
