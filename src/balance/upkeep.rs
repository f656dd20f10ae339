//! What goes on behind a pool's choices: looks for replicas, checks of them, and who is let in.

use std::sync::Arc;
use std::time::Duration;

use super::discovery::Discovery;
use super::pool::{Balancer, Pool, replica_of};
use super::replica::Replica;

/// How often a pool is looked after that is not checked.
const LOOK: Duration = Duration::from_secs(30);
/// How often one is let in that waits, when nothing else happens.
const IDLE: Duration = Duration::from_secs(5);
/// How soon again after a look that found nothing.
const AGAIN: Duration = Duration::from_secs(2);
/// Into how many steps a share that grows is divided.
const STEPS: u32 = 20;
/// … each of which takes this long at least.
const SHORTEST_STEP: Duration = Duration::from_millis(100);

impl Pool {
    /// Every replica that is found.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.backends().get_backend().iter().filter_map(replica_of).cloned().collect()
    }

    /// What looks for its replicas.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Resolves when replicas have come that nobody has asked for their models.
    pub async fn newcomers(&self) {
        self.newcomers.notified().await;
    }

    /// Whether replicas wait to be let in.
    pub fn has_newcomers(&self) -> bool {
        self.replicas().iter().any(|replica| replica.serving.is_joining())
    }

    /// Takes in what has become known of replicas: lets in who serves.
    pub fn settle(&self) {
        self.differences.look(&self.provider, &self.backends().get_backend(), self.terms);
        self.note_healthy();
    }

    /// Tells the gate whose places count: those of replicas that are well, and have joined if any has.
    fn note_healthy(&self) {
        let backends = self.backends();
        let set = backends.get_backend();
        let well = set.iter().filter(|backend| backends.ready(backend)).filter_map(replica_of);
        let (joining, joined): (Vec<_>, Vec<_>) =
            well.cloned().partition(|replica| replica.serving.is_joining());
        self.gate().set_replicas(if joined.is_empty() { joining } else { joined });
    }

    /// One look at where the replicas are and one round of checks: after it the pool can be used.
    /// How long it holds.
    pub async fn refresh(&self) -> Duration {
        self.differences.begin();
        // One that cannot be looked up has been told of, and stays what it was.
        let found = match &self.balancer {
            Balancer::RoundRobin(balancer)
            | Balancer::LeastRequests(balancer)
            | Balancer::PrefixAffinity(balancer) => balancer.update().await,
            Balancer::Random(balancer) => balancer.update().await,
            Balancer::ConsistentHash(balancer) => balancer.update().await,
        };
        self.check().await;
        self.differences.end();
        if self.has_newcomers() {
            self.newcomers.notify_one();
        }
        if found.is_ok() { self.discovery.holds() } else { AGAIN }
    }

    /// Looks for replicas and checks them, for ever; ends when its task is dropped.
    pub async fn run(&self) {
        tokio::select! {
            () = self.discovery.watch() => {}
            () = self.look_after() => {}
        }
    }

    async fn look_after(&self) {
        let now = tokio::time::Instant::now;
        let step = (self.terms.slow_start / STEPS).max(SHORTEST_STEP);
        let pause = self.check_interval.unwrap_or(LOOK);
        // A pool that found nothing at the start looks again soon.
        let mut next_look = now() + self.discovery.holds();
        let mut next_check = now() + pause;
        loop {
            let next_step = if self.differences.is_warming() { step } else { IDLE };
            let wake = next_look.min(next_check).min(now() + next_step);
            let told = tokio::select! {
                () = tokio::time::sleep_until(wake) => false,
                () = self.discovery.changed() => true,
            };
            if told || now() >= next_look {
                next_look = now() + self.refresh().await;
                next_check = now() + pause;
            } else if now() >= next_check {
                self.check().await;
                next_check = now() + pause;
            } else {
                self.settle();
            }
        }
    }

    async fn check(&self) {
        fault!("balance::checks");
        if self.check_interval.is_some() {
            self.backends().run_health_check(true).await;
            self.forget_ill();
        }
        self.settle();
    }

    /// A server that comes back has likely begun anew, and its cache is empty.
    fn forget_ill(&self) {
        if !self.wants_loads() {
            return;
        }
        let backends = self.backends();
        let set = backends.get_backend();
        let ill = set.iter().filter(|backend| !backends.ready(backend));
        ill.filter_map(replica_of).for_each(|replica| replica.forget());
    }
}
