//! What goes on behind the requests: look-ups, health checks, logins, and the providers' lists of models.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::info;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::logins;
use super::tireless::tireless;
use crate::balance::{Exact, follow, learn, watch_loads};
use crate::snapshot::{Snapshot, Upstream};

/// How often a provider is asked for its models.
const MODELS_INTERVAL: Duration = Duration::from_mins(1);
/// … and how often each replica of a cluster: what it has decides what it is given.
const EACH_INTERVAL: Duration = Duration::from_secs(10);
/// … and how soon again one that is about to join.
const NEWCOMERS_AGAIN: Duration = Duration::from_secs(1);
/// How long models may keep a configuration from serving.
const FIRST_MODELS: Duration = Duration::from_secs(2);
/// … and how soon again when it did not answer.
const MODELS_AGAIN: Duration = Duration::from_secs(5);
/// How long the first round may keep a configuration from serving.
const FIRST_ROUND: Duration = Duration::from_secs(10);

/// Keeps the providers of the configuration in force known. One service for all of them: pingora
/// gives each service a runtime of its own.
pub struct Balance {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Tells that another one is in force.
    pub swapped: watch::Receiver<()>,
}

/// What goes on for each provider, by the place in memory that is its own as long as its tasks
/// hold it. Dropped with this, they end.
#[derive(Default)]
struct Tasks(HashMap<usize, JoinSet<()>>);

#[async_trait]
impl BackgroundService for Balance {
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let upstreams = self.snapshot.load().upstreams.clone();
        let first = first_round(upstreams.clone());
        let (_late, ()) = tokio::join!(first, logins::first_round(&upstreams));
        drop(upstreams);
        ready.notify_ready();
        tokio::select! {
            _closed = shutdown.changed() => {}
            () = tireless(|| self.follow()) => {}
        }
    }
}

impl Balance {
    /// Looks after the providers of whatever configuration is in force, for ever.
    async fn follow(&self) {
        let mut swapped = self.swapped.clone();
        let mut tasks = Tasks::default();
        loop {
            swapped.mark_unchanged();
            tasks.follow(&self.snapshot.load());
            if swapped.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Tasks {
    /// Begins what is missing, and ends what is not asked for any more.
    fn follow(&mut self, snapshot: &Snapshot) {
        let wanted: HashSet<usize> = snapshot.upstreams.iter().map(place).collect();
        self.0.retain(|place, _| wanted.contains(place));
        for upstream in &snapshot.upstreams {
            self.0.entry(place(upstream)).or_insert_with(|| look_after(upstream));
        }
    }
}

fn place(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}

fn look_after(upstream: &Arc<Upstream>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (watched, listed) = (Arc::clone(upstream), Arc::clone(upstream));
    tasks.spawn(async move { tireless(|| watched.pool.run()).await });
    tasks.spawn(async move { tireless(|| list_models(&listed)).await });
    if upstream.tells_load() {
        let told = Arc::clone(upstream);
        tasks.spawn(async move { tireless(|| watch_loads(|| told.load_questions())).await });
    }
    if let Some(exact) = upstream.pool.exact() {
        let (listened, translated) = (Arc::clone(upstream), Arc::clone(upstream));
        let (heard, learned) = (Arc::clone(exact), Arc::clone(exact));
        tasks.spawn(async move { tireless(|| follow_caches(&listened, &heard)).await });
        tasks.spawn(async move { tireless(|| learn_prompts(&translated, &learned)).await });
    }
    if let Some(login) = upstream.provider.login() {
        let (upstream, login) = (Arc::clone(upstream), Arc::clone(login));
        tasks.spawn(async move { tireless(|| logins::keep(&upstream, &login)).await });
    }
    tasks
}

async fn follow_caches(upstream: &Upstream, exact: &Arc<Exact>) {
    let topic = upstream.cache_topic().unwrap_or_default();
    follow(exact, topic, || upstream.cache_sources()).await;
}

async fn learn_prompts(upstream: &Upstream, exact: &Exact) {
    let is_adapter = |model: &str| upstream.is_adapter(model);
    learn(exact, || upstream.tokens_question(), is_adapter).await;
}

/// The first look for each provider's replicas, the first round of checks, and which models each has
/// where there are several; bounded in time. Those that are late go on in their own time, for as long
/// as what is returned is kept.
pub async fn first_round(upstreams: Vec<Arc<Upstream>>) -> JoinSet<()> {
    let mut first = JoinSet::new();
    for upstream in upstreams {
        first.spawn(async move {
            upstream.pool.refresh().await;
            if upstream.asks_each_for_models() && upstream.pool.replicas().len() > 1 {
                let _told = tokio::time::timeout(FIRST_MODELS, upstream.list_models()).await;
            }
        });
    }
    let round = async { while first.join_next().await.is_some() {} };
    let _late = tokio::time::timeout(FIRST_ROUND, round).await;
    first
}

/// Asks a provider for its models, again and again. What goes wrong is told once.
async fn list_models(upstream: &Upstream) {
    let mut told = false;
    loop {
        let failed = upstream.list_models().await.err();
        let pause = match failed {
            _ if upstream.pool.has_newcomers() => NEWCOMERS_AGAIN,
            Some(_) => MODELS_AGAIN,
            None if upstream.asks_each_for_models() => EACH_INTERVAL,
            None => MODELS_INTERVAL,
        };
        if let Some(error) = failed.as_ref().filter(|_| !told) {
            info!("provider {} does not list its models: {error}", upstream.provider.name);
        }
        told = failed.is_some();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = upstream.pool.newcomers() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::config::{Config, Kind, Provider};
    use crate::snapshot::Origin;

    /// Providers of the built-in mock, by these names.
    fn snapshot(names: &[&str], before: Option<&Snapshot>) -> Snapshot {
        let provider = |name: &&str| Provider::new(name, Kind::Mock, Vec::new());
        let providers = names.iter().map(provider).collect();
        let config = Config { providers, ..Config::default() };
        Snapshot::compile(config, Origin::default(), before).unwrap()
    }

    #[tokio::test]
    async fn a_thousand_reloads_leave_nothing_behind() {
        let current = Arc::new(ArcSwap::from_pointee(snapshot(&["stays", "0"], None)));
        let told = watch::Sender::new(());
        let balance = Balance { snapshot: Arc::clone(&current), swapped: told.subscribe() };
        let mut service = JoinSet::new();
        service.spawn(async move { balance.follow().await });

        let stays = Arc::downgrade(&current.load().upstreams[0]);
        let mut gone: Vec<Weak<Upstream>> = Vec::new();
        for turn in 1..=1000 {
            gone.push(Arc::downgrade(&current.load().upstreams[1]));
            let next = snapshot(&["stays", &turn.to_string()], Some(&current.load()));
            current.store(Arc::new(next));
            told.send_replace(());
            // Some are followed one by one, some several at once.
            if turn % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
        // Nothing but a task can hold them now, and it ends when it is given a turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let left = gone.iter().filter(|upstream| upstream.strong_count() > 0).count();
        assert_eq!(left, 0, "providers that are looked after and not configured");
        // The snapshot, and two tasks.
        assert_eq!(stays.strong_count(), 3);
        assert_eq!(Arc::strong_count(&current.load().upstreams[1]), 3);
        service.abort_all();
        while service.join_next().await.is_some() {}
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stays.strong_count(), 1, "they end with the service");
    }
}
