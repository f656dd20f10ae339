//! Keeps what outlives a request: keys and users as the store has them, and what was counted.
//!
//! Nothing here is waited for by a request. While the store or Redis is away everything goes on from
//! memory; what is owed is kept, one sum per counter, and delivered later.

mod chores;
mod counts;
mod desk;
mod leases;
mod objects;
mod records;
mod retention;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{debug, error, info, warn};
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::counts::{Counts, FLUSH};
use self::desk::Orders;
pub use self::desk::{Desk, Order};
use self::leases::Leases;
use self::objects::Objects;
use super::succession::give_way;
use super::tireless::tireless;
use crate::access::limits::{Mode, Now};
use crate::access::{Errand, History, Owners, Registry, Rules};
use crate::config::Secret;
use crate::ledger::UsageBook;
use crate::snapshot::Snapshot;
use crate::store::redis::SharedCounts;
use crate::store::{Store, StoreError};

/// How long the store may keep this process from serving. Without it, only callers of the
/// configuration are known.
const FIRST: Duration = Duration::from_secs(10);
/// How soon a store that is away is looked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// … and one that cannot be used as it is.
const MENDED: Duration = Duration::from_secs(10);
/// How often the store hears that this process lives.
const BEAT: Duration = Duration::from_secs(3);
/// How often it is made sure that the store is there, and how long that may take.
const LOOK: Duration = Duration::from_secs(1);
/// How often responses are looked through whose time may be over.
const SWEEP: Duration = Duration::from_secs(5);
/// How long users that were made for a time are kept after it, where nothing is configured.
const PURGE_AFTER: Duration = Duration::from_hours(48);

/// The service.
pub struct Keeper {
    registry: Arc<Registry>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Tells that another configuration is in force.
    swapped: watch::Receiver<()>,
    store: Option<Secret>,
    desk: Arc<Desk>,
    /// Tells that records of providers or models have changed.
    configured: watch::Sender<()>,
    /// This process among others.
    node: Arc<str>,
    /// Processes that use the store.
    nodes: Arc<AtomicU32>,
    counts: Mutex<Counts>,
    owners: Arc<Owners>,
    objects: Mutex<Objects>,
    history: Arc<History>,
    leases: Option<Mutex<Leases>>,
    /// The next exchange with the store is due now.
    hurry: Notify,
}

/// What a keeper is made of.
pub struct Given {
    pub registry: Arc<Registry>,
    pub owners: Arc<Owners>,
    pub history: Arc<History>,
    pub usage: Arc<UsageBook>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub swapped: watch::Receiver<()>,
    pub store: Option<Secret>,
    pub redis: Option<Secret>,
    pub desk: Arc<Desk>,
}

#[async_trait]
impl BackgroundService for Keeper {
    /// Ready when keys, users and counts are known, and after ten seconds in any case. It goes on to
    /// the end of the process: what is under way is still to be counted.
    async fn start_with_ready_notifier(
        &self,
        _shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let known = watch::Sender::new(false);
        let mut told = known.subscribe();
        let begin = async {
            let round = async {
                if let Some(leases) = &self.leases {
                    leases.lock().await.round().await;
                }
            };
            let told = async { told.wait_for(|known| *known).await.is_ok() };
            if timeout(FIRST, async { tokio::join!(round, told) }).await.is_err() {
                warn!("serving without the store: only keys of the configuration are known");
            }
            ready.notify_ready();
        };
        let share = async {
            if let Some(leases) = &self.leases {
                tireless(|| leases::share(leases, &self.registry.limits)).await;
            }
        };
        let follow = tireless(|| self.follow_rules());
        let sweep = tireless(|| self.sweep());
        tokio::join!(begin, self.keep(&known), share, follow, sweep);
    }
}

impl Keeper {
    /// # Errors
    ///
    /// What is wrong with the URL of Redis, without it.
    pub fn new(given: Given) -> Result<Self, String> {
        let Given { registry, owners, history, usage, snapshot, .. } = given;
        let (swapped, store, redis, desk) = (given.swapped, given.store, given.redis, given.desk);
        let node: Arc<str> = format!("{:016x}", rand::random::<u64>()).into();
        let nodes = Arc::new(AtomicU32::new(1));
        let limits = Arc::clone(&registry.limits);
        let counts = Counts::new(Arc::clone(&limits), usage, Arc::clone(&node));
        let leases = match &redis {
            Some(url) => {
                let shared = SharedCounts::new(url).map_err(|error| error.to_string())?;
                let by_store = Arc::clone(&nodes);
                Some(Mutex::new(Leases::new(limits, Arc::clone(&node), shared, by_store)))
            }
            None => None,
        };
        Ok(Self {
            registry,
            snapshot,
            swapped,
            store,
            desk,
            configured: watch::Sender::new(()),
            node,
            nodes,
            counts: Mutex::new(counts),
            objects: Mutex::new(Objects::new(Arc::clone(&owners))),
            owners,
            history,
            leases,
            hurry: Notify::new(),
        })
    }

    /// Tells each time that records of providers or models have changed in the store.
    pub fn configured(&self) -> watch::Receiver<()> {
        self.configured.subscribe()
    }

    /// All that has to do with the store, and orders.
    async fn keep(&self, known: &watch::Sender<bool>) {
        let Some(orders) = self.desk.take() else { return };
        let orders = Mutex::new(orders);
        let Some(url) = &self.store else {
            known.send_replace(true);
            self.usage_has_no_store(&orders).await;
            return;
        };
        let errands = self.registry.take_errands().map(Mutex::new);
        let store = self.open(url, known).await;
        self.begin(&store).await;
        known.send_replace(true);
        let told = || self.configured.send_replace(());
        let purge_after = || {
            let temporary = &self.snapshot.load().config.temporary_keys;
            temporary.as_ref().map_or(PURGE_AFTER, |keys| keys.purge_after)
        };
        let errands = async {
            if let Some(errands) = &errands {
                tireless(|| run_errands(&store, errands)).await;
            }
        };
        tokio::join!(
            tireless(|| records::follow(&self.registry, &store, &told)),
            tireless(|| chores::purge(&self.registry, &store, purge_after)),
            tireless(|| retention::keep(&self.registry, &self.owners, &store)),
            tireless(|| objects::keep(&self.objects, &store)),
            tireless(|| self.deliver(&store)),
            tireless(|| self.live(&store)),
            tireless(|| self.look(&store)),
            tireless(|| self.obey(Some(&store), &orders)),
            errands,
        );
    }

    /// Without a store there is nowhere to write what was used; it must not gather.
    async fn usage_has_no_store(&self, orders: &Mutex<Orders>) {
        let forget = async {
            let mut turn = interval(FLUSH);
            loop {
                turn.tick().await;
                self.counts.lock().await.forget();
            }
        };
        tokio::join!(forget, tireless(|| self.obey(None, orders)));
    }

    /// Opens the store, for as long as it takes. One that is not to be touched keeps this process from
    /// serving.
    async fn open(&self, url: &Secret, known: &watch::Sender<bool>) -> Store {
        let mut told = false;
        let begun = tokio::time::Instant::now();
        loop {
            let error = match Store::open(url).await {
                Ok(store) => return store,
                Err(error) => error,
            };
            let pause = if error.may_pass() { AGAIN } else { MENDED };
            if !error.may_pass() && !*known.borrow() && begun.elapsed() < FIRST {
                give_way(&format!("the store: {error}"));
            }
            if !std::mem::replace(&mut told, true) {
                error!("the store cannot be opened: {error}");
            }
            sleep(pause).await;
        }
    }

    /// Finds out who may call, and what has been counted.
    async fn begin(&self, store: &Store) {
        let mut told = false;
        loop {
            match self.try_begin(store).await {
                Ok(()) => return,
                Err(error) if !std::mem::replace(&mut told, true) => {
                    warn!("keys and users are not known yet: {error}");
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    async fn try_begin(&self, store: &Store) -> Result<(), StoreError> {
        self.beat(store).await?;
        self.counts.lock().await.learn_all(store).await?;
        records::load(&self.registry, store).await?;
        self.objects.lock().await.load(store).await?;
        self.registry.attach(Some(store.clone()));
        Ok(())
    }

    async fn beat(&self, store: &Store) -> Result<(), StoreError> {
        let nodes = store.beat(&self.node).await?.max(1);
        self.nodes.store(nodes, Relaxed);
        if self.leases.is_none() {
            self.registry.limits.set_mode(Mode::Solo { nodes });
        }
        Ok(())
    }

    /// Delivers what was counted, again and again.
    async fn deliver(&self, store: &Store) {
        loop {
            let pause = {
                let mut counts = self.counts.lock().await;
                if counts.flush(store).await {
                    // More waits, and so may somebody who has to be told first.
                    continue;
                }
                counts.follow(store).await;
                counts.pause()
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.hurry.notified() => {}
            }
        }
    }

    /// Says in the store that this process lives. One that somebody else is changing for long is
    /// told later.
    async fn live(&self, store: &Store) {
        let mut turn = interval(BEAT);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if let Err(error) = self.beat(store).await {
                debug!("the store does not hear that this process lives: {error}");
            }
        }
    }

    /// Looks whether the store is there. It is read and not written: others may write for long.
    async fn look(&self, store: &Store) {
        let mut turn = interval(LOOK);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut here = true;
        loop {
            turn.tick().await;
            let found = timeout(2 * LOOK, store.revision()).await;
            let found = found.unwrap_or_else(|_| Err(StoreError::Away("no answer".to_owned())));
            match (&found, here) {
                (Ok(_), false) => info!("the store is back"),
                (Err(error), true) => warn!("serving from memory: {error}"),
                _ => continue,
            }
            here = found.is_ok();
            self.registry.attach(here.then(|| store.clone()));
        }
    }

    /// Does what others wait for.
    async fn obey(&self, store: Option<&Store>, orders: &Mutex<Orders>) {
        let mut orders = orders.lock().await;
        while let Some((order, done)) = orders.recv().await {
            self.carry_out(order, store).await;
            // Who asked may have given up.
            let _told = done.send(());
        }
        std::future::pending::<()>().await;
    }

    async fn carry_out(&self, order: Order, store: Option<&Store>) {
        if order == Order::Leave
            && let Some(leases) = &self.leases
            && let Err(error) = leases.lock().await.leave().await
        {
            info!("what was leased comes back with its window: {error}");
        }
        let Some(store) = store else { return };
        let mut counts = self.counts.lock().await;
        if order == Order::TakeOver {
            if let Err(error) = counts.learn_all(store).await {
                warn!("what the old process counted last comes later: {error}");
            }
            counts.take_over();
            self.objects.lock().await.look(store).await;
            return;
        }
        counts.hand_over();
        // What is under way first, then what has come since.
        counts.flush_all(store).await;
        counts.flush_all(store).await;
        self.objects.lock().await.flush_all(store).await;
        self.hurry.notify_one();
        if order == Order::Leave
            && let Err(error) = store.leave(&self.node).await
        {
            info!("the store forgets this process by itself: {error}");
        }
    }

    /// Removes responses whose time is over, and all when none are to be kept any more.
    async fn sweep(&self) {
        let mut turn = interval(SWEEP);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            let snapshot = self.snapshot.load();
            let keep = snapshot.config.responses.keep.as_millis();
            let keep = i64::try_from(keep).unwrap_or(i64::MAX);
            let kept = snapshot.config.keeps_responses();
            let since = if kept { Now::by_clock().0.saturating_sub(keep) } else { i64::MAX };
            drop(snapshot);
            self.history.sweep(since);
        }
    }

    /// Puts what the configuration says of every user into force.
    async fn follow_rules(&self) {
        let mut swapped = self.swapped.clone();
        loop {
            swapped.mark_unchanged();
            let snapshot = self.snapshot.load();
            self.registry.follow(Rules::of(&snapshot.config));
            self.owners.set_keep(snapshot.config.objects.keep);
            drop(snapshot);
            if swapped.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn run_errands(store: &Store, errands: &Mutex<mpsc::Receiver<Errand>>) {
    chores::run_errands(store, &mut *errands.lock().await).await;
    std::future::pending::<()>().await;
}
