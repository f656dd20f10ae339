//! Limits shared by several nodes through Redis: what this one may spend of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use log::{info, warn};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::access::limits::{Ask, Granted, Limits, Mode, Now};
use crate::store::redis::{Lease, Leased, MOST_LEASES, SharedAway, SharedCounts};

/// How often leases are looked after when none run short.
const LOOK: Duration = Duration::from_millis(100);
/// How long between two calls, however short leases run.
const BREATH: Duration = Duration::from_millis(5);
/// How often Redis hears that this node lives.
const BEAT: Duration = Duration::from_secs(2);
/// How often a Redis that is away is looked for.
const AGAIN: Duration = Duration::from_millis(500);

/// This node's part in what is shared.
pub struct Leases {
    limits: Arc<Limits>,
    node: Arc<str>,
    counts: SharedCounts,
    /// Nodes, by Redis; `None`: it has never been heard.
    nodes: Option<u32>,
    /// … and by the store.
    by_store: Arc<AtomicU32>,
    away: bool,
    beaten: Option<Instant>,
    /// What was told last: that Redis is there, or that it is not.
    told: Option<bool>,
}

// === impl Leases ===

impl Leases {
    /// Until Redis is heard, it counts as away.
    pub fn new(
        limits: Arc<Limits>,
        node: Arc<str>,
        counts: SharedCounts,
        by_store: Arc<AtomicU32>,
    ) -> Self {
        let (nodes, beaten, told) = (None, None, None);
        let leases = Self { limits, node, counts, nodes, by_store, away: true, beaten, told };
        leases.set_mode();
        leases
    }

    /// One round: says that this node lives, and takes what leases are wanted. `false`: Redis is away.
    pub async fn round(&mut self) -> bool {
        let mut done = self.try_round().await;
        if done.is_err() {
            // From now on nobody waits for leases. A connection that was closed while idle is no
            // reason to say so.
            let known = std::mem::replace(&mut self.away, true);
            self.set_mode();
            if !known {
                done = self.try_round().await;
            }
        }
        match &done {
            Ok(()) if self.told.replace(true) != Some(true) => {
                info!("limits are shared through Redis with {} nodes", self.nodes.unwrap_or(1));
            }
            Err(error) if self.told.replace(false) != Some(false) => {
                warn!("limits are split among the nodes until Redis is back: {error}");
            }
            _ => {}
        }
        done.is_ok()
    }

    async fn try_round(&mut self) -> Result<(), SharedAway> {
        if self.away || self.beaten.is_none_or(|at| at.elapsed() >= BEAT) {
            let nodes = self.counts.beat(&self.node).await?;
            self.beaten = Some(Instant::now());
            self.find(nodes);
        }
        let asks = self.limits.leases(Now::by_clock());
        self.ask(&asks, false).await
    }

    async fn ask(&mut self, asks: &[Ask], leaving: bool) -> Result<(), SharedAway> {
        for (turn, some) in asks.chunks(MOST_LEASES).enumerate() {
            let leases: Vec<Lease> = some.iter().map(lease).collect();
            match self.counts.lease(&self.node, &leases, leaving).await {
                Ok(answers) => {
                    let answers: Vec<Granted> = answers.iter().map(granted).collect();
                    self.limits.leased(some, &answers, Now::by_clock());
                }
                Err(error) => {
                    self.limits.unheard(asks.get(turn * MOST_LEASES..).unwrap_or_default());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Gives back what is not spent, and is not waited for any more.
    pub async fn leave(&mut self) -> Result<(), SharedAway> {
        let asks = self.limits.leave(Now::by_clock());
        self.ask(&asks, true).await?;
        self.counts.leave(&self.node).await
    }

    fn find(&mut self, nodes: u32) {
        let nodes = Some(nodes.max(1));
        if self.away || self.nodes != nodes {
            (self.nodes, self.away) = (nodes, false);
            self.set_mode();
        }
    }

    fn set_mode(&self) {
        let nodes = self.nodes.unwrap_or_else(|| self.by_store.load(Relaxed).max(1));
        self.limits.set_mode(Mode::Shared { nodes, away: self.away });
    }
}

/// Takes leases for ever.
pub async fn share(leases: &Mutex<Leases>, limits: &Limits) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = limits.wanted() => {}
            _now = look.tick() => {}
        }
        let here = leases.lock().await.round().await;
        sleep(if here { BREATH } else { AGAIN }).await;
    }
}

fn lease(ask: &Ask) -> Lease<'_> {
    Lease {
        counter: &ask.counter,
        expires_at: ask.expires_at,
        cap: ask.cap,
        base: ask.base,
        had: ask.had,
        held: ask.held,
        want: ask.want,
    }
}

fn granted(leased: &Leased) -> Granted {
    Granted { granted: leased.granted, used: leased.used }
}
