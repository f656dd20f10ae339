//! Another configuration takes the place of the one in force, without a restart; or, when anything
//! is wrong with it, nothing happens.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info, warn};
use tokio::sync::{Mutex, watch};

use super::background;
use super::candidate::{Candidate, Ready, one};
use super::certificates::Certificates;
use super::logins;
use crate::access::Registry;
use crate::admin::dynamic::Shelf;
use crate::admin::{self, Steward};
use crate::config::{Config, Problems, Source, Stamp};
use crate::snapshot::{LastReload, Reload, Snapshot, Upstream};
use crate::telemetry::Metrics;

/// How long the store may take to say what it adds.
const ASK: Duration = Duration::from_secs(10);

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
    registry: Arc<Registry>,
    /// Held for the length of a reload: one at a time.
    held: Mutex<Held>,
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
    /// What of the store had to be left out.
    pub left_out: Vec<String>,
}

/// What was read last, and what of it is in force.
struct Held {
    /// How the files looked that were read last.
    stamp: Stamp,
    /// The file in force; `None` until it is needed for the first time.
    source: Option<Arc<Source>>,
    /// What the store adds to it; `None` until the store has been asked.
    shelf: Option<Shelf>,
    /// What the store would add, and what is wrong with it: told once.
    refused: Option<(Shelf, Problems)>,
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

    /// Where it stands.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
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
        registry: Arc<Registry>,
    ) -> Self {
        let started = Arc::new(snapshot.load().config.clone());
        let files = Stamp::of(started.files());
        let (path, stamp) = file.map(|file| (file.path, file.stamp)).unzip();
        let stamp = stamp.unwrap_or_default().with(files);
        let held = Mutex::new(Held { stamp, source: None, shelf: None, refused: None });
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
            registry,
            held,
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
        let tried = self.held.lock().await.stamp.clone();
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
        let mut held = self.held.lock().await;
        let Some(path) = self.path.clone() else {
            return Err(one(None, "there is no configuration file to read again"));
        };
        // Whether it is wanted is for the file to say.
        let stored = self.stored().await.or_else(|| held.shelf.clone());
        let (stamp, read) = self.read(path, &held.stamp, stored.clone().unwrap_or_default()).await;
        let outcome = match read {
            Ok((source, ready)) => {
                (held.source, held.shelf, held.refused) = (Some(source), stored, None);
                Ok(self.put_into_force(ready).await)
            }
            Err(problems) => Err(problems),
        };
        // Not before: who gives up on the way has tried nothing.
        held.stamp = stamp;
        self.book(&outcome);
        outcome
    }

    /// Whether the store may add providers and models.
    pub fn is_dynamic(&self) -> bool {
        self.path.is_some() && is_dynamic(&self.snapshot.load().config)
    }

    /// Puts what the store adds now into force, behind the file that is in force. `first`: nothing of
    /// it has been until now, and what is wrong in it is left out.
    ///
    /// # Errors
    ///
    /// Every mistake. The configuration in force stays.
    pub async fn follow_store(&self, first: bool) -> Result<(), Problems> {
        if !self.is_dynamic() {
            return Ok(());
        }
        let mut held = self.held.lock().await;
        let away = || one(None, "the store is away");
        let stored = self.stored().await.ok_or_else(away)?;
        if held.shelf.as_ref() == Some(&stored) {
            return Ok(());
        }
        if let Some((refused, problems)) = &held.refused
            && *refused == stored
        {
            return Err(problems.clone());
        }
        let candidate = self.candidate(&mut held, stored.clone()).await?;
        let build = move || {
            let mut stamp = Stamp::default();
            if first {
                return (candidate.build_what_holds(&mut stamp), stamp);
            }
            (candidate.build(&mut stamp), stamp)
        };
        let (ready, stamp) = apart(build).await?;
        let outcome = match ready {
            Ok(ready) => {
                held.stamp = std::mem::take(&mut held.stamp).with(stamp);
                (held.shelf, held.refused) = (Some(stored), None);
                Ok(self.put_into_force(ready).await)
            }
            Err(problems) => {
                held.refused = Some((stored, problems.clone()));
                Err(problems)
            }
        };
        self.book(&outcome);
        outcome.map(drop)
    }

    /// What the store adds; `None` while it is away.
    async fn stored(&self) -> Option<Shelf> {
        let store = self.registry.store()?;
        let asked = tokio::time::timeout(ASK, admin::shelf(&store)).await;
        let failed = |error| warn!("the store does not say what it adds: {error}");
        asked.ok()?.map_err(failed).ok()
    }

    /// The file in force, with this shelf.
    async fn candidate(&self, held: &mut Held, stored: Shelf) -> Result<Candidate, Problems> {
        let source = match (&held.source, &self.path) {
            (Some(source), _) => Arc::clone(source),
            (None, None) => return Err(one(None, "there is no configuration file")),
            (None, Some(path)) => {
                let path = path.clone();
                let read = move || {
                    let source = Source::read(&path);
                    source.map_err(|error| Problems::unreadable(&path, &error))
                };
                let source = Arc::new(apart(read).await??);
                held.source = Some(Arc::clone(&source));
                source
            }
        };
        Ok(Candidate {
            source,
            shelf: stored,
            folder: self.folder.clone(),
            started: Arc::clone(&self.started),
            before: self.snapshot.load_full(),
        })
    }

    /// Reads the file, and all that it names. How they looked before.
    async fn read(
        &self,
        path: PathBuf,
        tried: &Stamp,
        stored: Shelf,
    ) -> (Stamp, Result<(Arc<Source>, Ready), Problems>) {
        let (folder, started) = (self.folder.clone(), Arc::clone(&self.started));
        let before = self.snapshot.load_full();
        let certificates = self.certificates.clone();
        let reading = move || {
            let mut stamp = ConfigFile::note(&path).stamp;
            let unreadable = |error: std::io::Error| Problems::unreadable(&path, &error);
            let read = Source::read(&path).map_err(unreadable).and_then(|source| {
                let (source, before) = (Arc::new(source), Arc::clone(&before));
                let candidate = Candidate { source, shelf: stored, folder, started, before };
                let ready = candidate.build(&mut stamp)?;
                Ok((candidate.source, ready))
            });
            if read.is_err() {
                // A mistake elsewhere must not let a certificate run out.
                if let Ok(fresh) = Certificates::read(&before.config.listen) {
                    certificates.show(fresh);
                }
            }
            // The files in force count whatever a broken one names.
            (stamp.with(Stamp::of(before.config.files())), read)
        };
        apart(reading).await.unwrap_or_else(|problems| (tried.again(), Err(problems)))
    }

    async fn put_into_force(&self, ready: Ready) -> Report {
        let Ready { snapshot, certificates, warnings, left_out } = ready;
        let before = self.snapshot.load_full();
        let known = |upstream: &&Arc<Upstream>| {
            before.upstreams.iter().any(|it| Arc::ptr_eq(&it.pool, &upstream.pool))
        };
        let fresh = snapshot.upstreams.iter().filter(|upstream| !known(upstream));
        let fresh: Vec<Arc<Upstream>> = fresh.cloned().collect();
        let report = Report {
            version: snapshot.origin.version.clone(),
            providers: snapshot.upstreams.len(),
            fresh: fresh.len(),
            waiting: snapshot.origin.waiting.clone(),
            warnings,
            left_out,
        };
        // Those that are late are looked after like all others.
        let logins = logins::first_round(&snapshot.upstreams);
        let (_late, ()) = tokio::join!(background::first_round(fresh), logins);
        self.certificates.show(certificates);
        snapshot.enforce();
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
                mistakes.extend(report.left_out.iter().cloned());
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

/// What other rooms ask for.
#[async_trait]
impl Steward for Reloader {
    async fn reload(&self) -> Result<(), Vec<String>> {
        self.reload().await.map(drop).map_err(|problems| problems.mistakes().collect())
    }

    async fn would_hold(&self, stored: Shelf) -> Result<(), Vec<String>> {
        let candidate = {
            let mut held = self.held.lock().await;
            self.candidate(&mut held, stored).await
        };
        let lines = |problems: Problems| -> Vec<String> { problems.mistakes().collect() };
        let candidate = candidate.map_err(lines)?;
        let built = apart(move || candidate.build(&mut Stamp::default()).map(drop)).await;
        built.map_err(lines)?.map_err(lines)
    }

    async fn follow_store(&self) -> Result<(), Vec<String>> {
        self.follow_store(false).await.map_err(|problems| problems.mistakes().collect())
    }
}

/// Away from the threads of requests.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problems> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| one(None, "it cannot be read: a bug"))
}

fn is_dynamic(config: &Config) -> bool {
    config.store.as_ref().is_some_and(|store| store.dynamic)
}
