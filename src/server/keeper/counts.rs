//! What was counted goes to the store, and what others have counted comes from it.

use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::time::{Instant, timeout};

use super::super::drain::LINGER;
use super::now;
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

/// What this process owes the store.
pub struct Counts {
    pub limits: Arc<Limits>,
    pub usage: Arc<UsageBook>,
    /// This process among others that use the store.
    pub node: Arc<str>,
    /// Of the last batch.
    sequence: i64,
    /// A batch whose outcome is not known: it is sent again as it is.
    sending: Option<Sending>,
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
            sending: None,
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
        let owed = self.limits.collect(Now(now()));
        self.limits.applied(&owed);
        drop(self.usage.take());
    }

    /// Delivers what is owed, if anything is, and learns where the same counters stand.
    pub async fn flush(&mut self, store: &Store) {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let done = match self.gather() {
            Some(counters) => self.send(store).await.map(|()| counters),
            None => return,
        };
        let done = match done {
            Ok(counters) => self.learn(store, &counters).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                if std::mem::take(&mut self.told) {
                    info!("the store has what was owed to it");
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// What is owed becomes a batch, unless one is still under way. The counters of which this
    /// process wants to know more; `None`: there is nothing to send.
    fn gather(&mut self) -> Option<Vec<(String, i64)>> {
        if self.sending.is_none() {
            let at = Now(now());
            let owed = if self.handing_over {
                self.limits.collect_all(at)
            } else {
                self.limits.collect(at)
            };
            let usage = self.usage.take();
            if owed.is_empty() && usage.is_empty() {
                return None;
            }
            let spent = owed.iter().filter(|one| one.spent > 0).map(spent).collect();
            let reserved = owed.iter().map(|one| (one.counter.to_string(), one.reserved)).collect();
            self.sequence += 1;
            self.sending = Some(Sending { batch: Batch { spent, reserved, usage }, owed });
        }
        let owed = self.sending.iter().flat_map(|sending| &sending.owed);
        let durable = owed.filter(|one| one.durable);
        Some(durable.map(|one| (one.counter.to_string(), one.expires_at)).collect())
    }

    async fn send(&mut self, store: &Store) -> Result<(), StoreError> {
        let Some(sending) = &self.sending else { return Ok(()) };
        let flush = store.flush(&self.node, self.sequence, &sending.batch);
        let done = timeout(EXCHANGE, flush).await.unwrap_or_else(|_| Err(late()));
        if done.as_ref().is_err_and(StoreError::is_away) {
            // It may have counted.
            return done;
        }
        if let Some(Sending { batch, owed }) = self.sending.take() {
            if done.is_ok() {
                self.limits.applied(&owed);
            } else {
                self.limits.give_back(&owed);
                self.usage.give_back(batch.usage);
            }
        }
        done
    }

    fn fail(&mut self, error: &StoreError) {
        if !error.is_away() {
            error!("what was counted cannot be written: {error}");
            self.not_before = Some(Instant::now() + PAUSE);
        } else if !std::mem::replace(&mut self.told, true) {
            warn!("what was counted is kept until the store is back: {error}");
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
