//! Another configuration takes the place of the one in force, without a restart; or, when anything
//! is wrong with it, nothing happens.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use log::{error, info, warn};
use tokio::sync::{Mutex, watch};

use super::certificates::{Certificates, Fresh};
use super::stamp::Stamp;
use super::waiting::waiting;
use super::{assemble, background};
use crate::balance::Pool;
use crate::config::{Config, Location, Problem, Problems, Source, load};
use crate::snapshot::{LastReload, Origin, Reload, Snapshot};
use crate::telemetry::Metrics;

/// A configuration's file, as it looked before it was read.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    stamp: Stamp,
}

/// Puts another configuration into force.
pub struct Reloader {
    /// `None`: there is no file to read again.
    path: Option<PathBuf>,
    /// Where relative paths begin, wherever the process has gone since.
    folder: PathBuf,
    /// What the process was started with.
    started: Arc<Config>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    certificates: Certificates,
    last: Arc<LastReload>,
    metrics: Arc<Metrics>,
    swapped: watch::Sender<()>,
    /// How the files looked that were read last. Held for the length of a reload: one at a time.
    tried: Mutex<Stamp>,
}

/// What a reload has done.
#[derive(Clone, Debug)]
pub struct Report {
    pub version: Option<String>,
    /// Providers that are configured, and those of them whose replicas are new.
    pub providers: usize,
    pub fresh: usize,
    /// What the file says and only an upgrade puts into force.
    pub waiting: Vec<String>,
    /// What is likely not as meant.
    pub warnings: Problems,
}

/// A configuration that can be put into force.
struct Ready {
    snapshot: Snapshot,
    certificates: Fresh,
    warnings: Problems,
}

// === impl ConfigFile ===

impl ConfigFile {
    /// To be called before the file is read, so that no change after that goes unseen.
    pub fn note(path: &Path) -> Self {
        // A daemon leaves its folder.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let stamp = Stamp::of([path.clone(), path.with_file_name(".env")]);
        Self { path, stamp }
    }
}

// === impl Reloader ===

impl Reloader {
    /// `file` is where `snapshot` was read from.
    pub fn new(
        file: Option<ConfigFile>,
        folder: PathBuf,
        snapshot: Arc<ArcSwap<Snapshot>>,
        certificates: Certificates,
        metrics: Arc<Metrics>,
    ) -> Self {
        let started = Arc::new(snapshot.load().config.clone());
        let files = Stamp::of(started.files());
        let (path, stamp) = file.map(|file| (file.path, file.stamp)).unzip();
        let tried = Mutex::new(stamp.unwrap_or_default().with(files));
        metrics.note_start();
        Self {
            path,
            folder,
            started,
            snapshot,
            certificates,
            last: Arc::default(),
            metrics,
            swapped: watch::Sender::new(()),
            tried,
        }
    }

    /// Tells each time that another configuration is in force.
    pub fn swapped(&self) -> watch::Receiver<()> {
        self.swapped.subscribe()
    }

    /// How the last reload ended.
    pub fn last(&self) -> Arc<LastReload> {
        Arc::clone(&self.last)
    }

    /// Whether there is a file to read again.
    pub fn has_file(&self) -> bool {
        self.path.is_some()
    }

    /// Looks at the files that were read last, without reading them: how they look, and whether that
    /// is news.
    pub async fn look(&self) -> (Stamp, bool) {
        let tried = self.tried.lock().await.clone();
        let before = tried.clone();
        let now = tokio::task::spawn_blocking(move || tried.again()).await;
        // A look that came to nothing sees no change.
        let now = now.unwrap_or_else(|_| before.clone());
        let news = now != before;
        (now, news)
    }

    /// Reads the file again, and puts it into force when nothing is wrong with it. Pools that are new
    /// are prepared first, so that no request finds one without replicas. Can be given up at any
    /// time: what it changes, it changes at once.
    ///
    /// # Errors
    ///
    /// Every mistake, as `forebay check` tells them. The configuration in force stays.
    pub async fn reload(&self) -> Result<Report, Problems> {
        let mut tried = self.tried.lock().await;
        let Some(path) = self.path.clone() else {
            return Err(one(None, "there is no configuration file to read again"));
        };
        let (stamp, ready) = self.read(path, &tried).await;
        let outcome = match ready {
            Ok(ready) => Ok(self.put_into_force(ready).await),
            Err(problems) => Err(problems),
        };
        // Not before: who gives up on the way has tried nothing.
        *tried = stamp;
        self.book(&outcome);
        outcome
    }

    /// Reads the file, and all that it names. How they looked before.
    async fn read(&self, path: PathBuf, tried: &Stamp) -> (Stamp, Result<Ready, Problems>) {
        let (folder, started) = (self.folder.clone(), Arc::clone(&self.started));
        let before = self.snapshot.load_full();
        let certificates = self.certificates.clone();
        let reading = {
            let path = path.clone();
            move || {
                let mut stamp = ConfigFile::note(&path).stamp;
                let ready = read(&path, &folder, &started, &before, &mut stamp);
                if ready.is_err() {
                    // A mistake elsewhere must not let a certificate run out.
                    if let Ok(fresh) = Certificates::read(&before.config.listen) {
                        certificates.show(fresh);
                    }
                }
                // The files in force count whatever a broken one names.
                (stamp.with(Stamp::of(before.config.files())), ready)
            }
        };
        let read = tokio::task::spawn_blocking(reading).await;
        let wrong = |_| (tried.again(), Err(one(Some(&path), "it cannot be read: a bug")));
        read.unwrap_or_else(wrong)
    }

    async fn put_into_force(&self, ready: Ready) -> Report {
        let Ready { snapshot, certificates, warnings } = ready;
        let before = self.snapshot.load_full();
        let known =
            |pool: &Arc<Pool>| before.upstreams.iter().any(|it| Arc::ptr_eq(&it.pool, pool));
        let pools = snapshot.upstreams.iter().map(|upstream| Arc::clone(&upstream.pool));
        let fresh: Vec<Arc<Pool>> = pools.filter(|pool| !known(pool)).collect();
        let report = Report {
            version: snapshot.origin.version.clone(),
            providers: snapshot.upstreams.len(),
            fresh: fresh.len(),
            waiting: snapshot.origin.waiting.clone(),
            warnings,
        };
        // Those that are late are looked after like all others.
        let _late = background::first_round(fresh).await;
        self.certificates.show(certificates);
        self.snapshot.store(Arc::new(snapshot));
        self.swapped.send_replace(());
        self.metrics.forget_replicas();
        report
    }

    /// Tells how it ended: the log, the metrics, `/health/detailed`.
    fn book(&self, outcome: &Result<Report, Problems>) {
        let mut mistakes = Vec::new();
        match outcome {
            Ok(report) => {
                let Report { providers, fresh, .. } = report;
                let version = report.version.as_deref().unwrap_or_default();
                info!("configuration {version} is in force: {providers} providers, {fresh} new");
                report.warnings.lines().for_each(|line| warn!("{line}"));
                for name in &report.waiting {
                    warn!("`{name}` has changed: `forebay upgrade` puts it into force");
                }
            }
            Err(problems) => {
                error!("not reloaded, the configuration in force stays:");
                problems.lines().for_each(|line| error!("{line}"));
                mistakes.extend(problems.mistakes());
            }
        }
        self.metrics.note_reload(outcome.is_ok());
        self.last.store(Some(Arc::new(Reload { at: SystemTime::now(), mistakes })));
    }
}

/// Reads a file and all it names, and puts them together. `stamp` gathers how the files looked
/// before.
fn read(
    path: &Path,
    folder: &Path,
    started: &Config,
    before: &Snapshot,
    stamp: &mut Stamp,
) -> Result<Ready, Problems> {
    let mistake = |message: String| one(Some(path), message);
    let source = Source::read(path).map_err(|error| Problems::unreadable(path, &error))?;
    let problems = |problems| Problems::new(Some(path), problems);
    let (mut config, warnings) = load(&source).map_err(problems)?;
    config.anchor(folder);
    *stamp = std::mem::take(stamp).with(Stamp::of(config.files()));
    keep_closed(started, &config).and_then(|()| keep_serving(&config)).map_err(mistake)?;
    let mut origin = Origin::of(&source.text);
    origin.waiting = waiting(started, &config);
    let assembled = assemble(config, origin, Some(before));
    let (snapshot, certificates) = assembled.map_err(|error| mistake(error.to_string()))?;
    Ok(Ready { snapshot, certificates, warnings: problems(warnings) })
}

/// Listeners stay where they are until an upgrade: a file that needs no keys because it listens on
/// loopback must not open those that listen elsewhere.
fn keep_closed(started: &Config, config: &Config) -> Result<(), String> {
    if config.anonymous || !config.keys.is_empty() {
        return Ok(());
    }
    let outside = started.listen.iter().find(|listen| !listen.is_loopback());
    outside.map_or(Ok(()), |listen| {
        Err(format!(
            "no key is needed, and until an upgrade {} can be reached from outside",
            listen.address
        ))
    })
}

/// A file that was cut off can be a valid one that says nothing: at a start it serves nobody, and
/// nobody is served yet.
fn keep_serving(config: &Config) -> Result<(), String> {
    if config.models.is_empty() && config.default_provider.is_none() {
        return Err("nothing is left to ask for: no `models`, and no `default_provider`".to_owned());
    }
    Ok(())
}

fn one(path: Option<&Path>, message: impl Into<String>) -> Problems {
    Problems::new(path, vec![Problem::error(Location::default(), message)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;

    #[test]
    fn a_listener_that_is_open_to_the_world_keeps_its_keys() {
        let loopback = Config::default();
        let outside = Config {
            listen: vec![Listen::plain("0.0.0.0:80".parse().unwrap())],
            ..Config::default()
        };
        let anonymous = Config { anonymous: true, ..Config::default() };
        assert!(keep_closed(&loopback, &loopback).is_ok());
        let said = keep_closed(&outside, &loopback).unwrap_err();
        assert!(said.contains("0.0.0.0:80"), "{said}");
        assert!(keep_closed(&outside, &anonymous).is_ok());
    }
}
