//! Assembles pingora's server: listeners, the background work, the hand-over to a new process, and
//! the way down.

mod background;
mod candidate;
mod certificates;
mod clerks;
mod connections;
mod drain;
mod ear;
#[cfg(feature = "otlp")]
mod exporter;
mod frames;
mod guarded;
mod handover;
mod handshake;
mod heads;
mod hook;
mod http2;
mod keeper;
mod listen;
mod log_writer;
mod logins;
mod lookout;
mod notify;
mod place;
mod probe;
mod reload;
mod settings;
mod shelf;
mod signals;
mod sockets;
mod succession;
mod teller;
mod tireless;
mod waiting;
mod watchdog;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use log::info;
use pingora::apps::HttpServerOptions;
use pingora::proxy::http_proxy;
use pingora::server::configuration::Opt;
use pingora::server::{RunArgs, Server};
use pingora::services::ServiceHandle;
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use tokio::sync::watch;

use self::background::Balance;
use self::certificates::{Certificates, Fresh};
use self::clerks::Clerks;
use self::connections::{Bounded, Open};
use self::drain::Drain;
use self::handover::{Launch, Office};
pub use self::handover::{Refused, find_control, upgrade};
use self::handshake::Handshakes;
use self::heads::Punctual;
use self::hook::Hook;
use self::keeper::{Desk, Keeper};
use self::log_writer::LogWriter;
use self::lookout::Lookout;
use self::place::Place;
pub use self::probe::{address, probe, reachable};
pub use self::reload::{ConfigFile, Reloader, Report};
use self::shelf::Follower;
use self::signals::Signals;
use self::sockets::{Seated, Sockets};
use self::succession::{Beginning, Succession};
use self::teller::Teller;
use self::watchdog::Watched;
use crate::access::limits::Limits;
use crate::access::{History, Owners, Registry};
use crate::admin::{self, Admin, Listener};
use crate::audit::{Audit, Meters};
use crate::config::{self, Config, Secret};
use crate::ledger::UsageBook;
use crate::mock;
use crate::proxy::{Gateway, Moderators, Operators};
use crate::snapshot::{Origin, Snapshot, Uncompilable};
use crate::telemetry::{self, AccessLog, Metrics, Spans};

/// A connection of HTTP/1.1 is closed after this many: what it holds is let go now and then.
const REQUESTS_PER_CONNECTION: u32 = 1000;

/// What the command line says about how to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Go to the background.
    pub daemon: bool,
    /// Take the sockets over from a running server.
    pub upgrade: bool,
}

/// What is to be served.
pub struct Given {
    pub config: Config,
    pub origin: Origin,
    /// Where it was read from, to be read again.
    pub file: Option<ConfigFile>,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Unstartable {
    #[error(transparent)]
    Configuration(#[from] Uncompilable),
    #[error("pingora's own settings: {0}")]
    Settings(String),
    #[error("{address}: {reason}")]
    Listener { address: SocketAddr, reason: String },
    #[error("{address}: {source}")]
    Address { address: SocketAddr, source: std::io::Error },
    #[error("{path}: {source}")]
    Control { path: PathBuf, source: std::io::Error },
    #[error("another server answers at {0}: `forebay upgrade` replaces it")]
    Running(PathBuf),
    #[error("cannot take over from the server at {path}: {source}")]
    Predecessor { path: PathBuf, source: std::io::Error },
    #[error("only a server with an `upgrade_sock` can be taken over from")]
    NoControl,
    #[error("`redis.url`: {0}")]
    Redis(String),
    #[error("the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Puts a configuration together as far as it goes without listening.
pub fn check(config: Config) -> Result<(), Unstartable> {
    assemble(config, Origin::default(), None).map(drop)
}

fn assemble(
    config: Config,
    origin: Origin,
    before: Option<&Snapshot>,
) -> Result<(Snapshot, Fresh), Unstartable> {
    settings::pingora(&config)?;
    let certificates = Certificates::read(&config.listen)?;
    Ok((Snapshot::compile(config, origin, before)?, certificates))
}

/// Serves until told to stop; returns only when it cannot start.
pub fn run(given: Given, options: Options) -> Result<Infallible, Unstartable> {
    fail::fail_point!("server::start");
    ear::survive_early_ones();
    let Given { mut config, origin, file } = given;
    let folder = std::env::current_dir().unwrap_or_default();
    config.anchor(&folder);
    let launch = Launch::note();
    let Place { settings, control, predecessor, sockets, launched, pid_file } =
        Place::take(&config, options)?;
    let mut server = Server::new_with_opt_and_conf(Opt::default(), settings);
    let bootstrap = server.bootstrap_as_a_service();

    let beside = file.as_ref().map_or(folder.as_path(), ConfigFile::folder).to_owned();
    let store = config.store_url(&beside);
    let (compiled, certificates) = assemble(config, origin, None)?;
    let certificates = Certificates::new(certificates);
    let house = House::build(compiled, file, folder, &certificates, store.is_some())?;
    let (snapshot, desk) = (Arc::clone(&house.snapshot), Arc::clone(&house.desk));
    let config = snapshot.load();
    let office = control.zip(launch.ok()).map(|(path, launch)| {
        let open = Arc::clone(&house.open);
        let deadline = config.config.timeouts.upgrade_ready;
        let count = Box::new(move || open.all());
        Arc::new(Office::new(launch, path, sockets.0.clone(), deadline, count, desk))
    });
    let succession = Arc::new(Succession::new(office, predecessor));
    let ready = Arc::new(AtomicBool::new(true));
    let (cut, close_idle) = (watch::Sender::new(false), watch::Sender::new(false));

    // The data plane waits for the first look at the providers: before it, no request could go
    // anywhere. Neither does it serve before it knows its callers, and what they have used.
    let usage = Arc::new(UsageBook::new());
    let mut first = house.prepare(&mut server, &bootstrap, store, &beside, &usage)?;
    let admin = house.admin();
    let gateway = Gateway {
        snapshot: Arc::clone(&snapshot),
        metrics: Arc::clone(&house.metrics),
        owners: Arc::clone(&house.owners),
        history: Arc::clone(&house.history),
        registry: Arc::clone(&house.registry),
        usage,
        audit: Arc::clone(&house.audit),
        access_log: Arc::clone(&house.access_log),
        spans: Arc::clone(&house.spans),
        operators: admin.as_ref().map(operators),
        moderators: Moderators::default(),
        ready: Arc::clone(&ready),
        cut: cut.subscribe(),
        last_reload: house.reloader.last(),
    };
    let mut proxy = http_proxy(&server.configuration, gateway);
    proxy.server_options = Some(http_options(&config.config));
    let app = Arc::new(Punctual::new(proxy, Arc::clone(&snapshot)));

    // Then it asks itself, and has the sockets handed over.
    let beginning = Beginning {
        succession: Arc::clone(&succession),
        app: Arc::clone(&app),
        open: Arc::clone(&house.open),
        desk: Arc::clone(&house.desk),
        pid_file,
    };
    let beginning = server.add_service(background_service("beginning", beginning));
    let bounded = house.bounded(&app, close_idle.subscribe());
    let service = data_service(bounded, &config.config, &certificates, house.handshakes())?;
    let service = Watched { service, app, successor: launched };
    let data = server.add_service(Seated { service, sockets: sockets.clone() });
    data.add_dependency(&beginning);
    if let Some((given, admin)) = config.config.admin.as_ref().zip(admin) {
        let service = admin_service(given, admin);
        server.add_service(Seated { service, sockets }).add_dependency(&beginning);
    }

    let stop = watch::Sender::new(false);
    let asked = stop.subscribe();
    let drain = house.drain(stop, Arc::clone(&ready), Arc::clone(&succession), close_idle, cut);
    server.add_service(background_service("drain", drain));
    let lookout = Lookout { reloader: Arc::clone(&house.reloader) };
    first.push(server.add_service(background_service("lookout", lookout)));
    for service in &first {
        beginning.add_dependency(service);
    }
    drop(config);
    run_forever(server, Signals { ready, snapshot, succession, asked })
}

/// What several services have in common.
struct House {
    snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    owners: Arc<Owners>,
    history: Arc<History>,
    audit: Arc<Audit>,
    reloader: Arc<Reloader>,
    desk: Arc<Desk>,
    open: Arc<Open>,
    access_log: Arc<AccessLog>,
    spans: Arc<Spans>,
}

impl House {
    fn build(
        compiled: Snapshot,
        file: Option<ConfigFile>,
        folder: PathBuf,
        certificates: &Certificates,
        has_store: bool,
    ) -> Result<Self, Unstartable> {
        let snapshot = Arc::new(ArcSwap::from_pointee(compiled));
        let metrics = Arc::new(Metrics::new()?);
        telemetry::watch_panics(metrics.panics.clone());
        let registry = Arc::new(Registry::new(has_store, Limits::new()));
        let (of, to) = (certificates.clone(), Arc::clone(&metrics));
        let reloader = Reloader::new(file, folder, snapshot.clone(), of, to, registry.clone());
        let open = Arc::new(Open::new(metrics.connections.clone()));
        let (reloader, desk) = (Arc::new(reloader), Arc::new(Desk::new()));
        let (owners, history) = (Arc::new(Owners::new(has_store)), Arc::default());
        let audit = Arc::new(Audit::new(meters(&metrics)));
        audit.set_enabled(snapshot.load().config.audit.is_some());
        let (access_log, spans) = (Arc::default(), Arc::default());
        Ok(Self {
            snapshot,
            metrics,
            registry,
            owners,
            history,
            audit,
            reloader,
            desk,
            open,
            access_log,
            spans,
        })
    }

    /// What goes on behind the requests, and comes before them.
    fn prepare(
        &self,
        server: &mut Server,
        bootstrap: &ServiceHandle,
        store: Option<Secret>,
        beside: &Path,
        usage: &Arc<UsageBook>,
    ) -> Result<Vec<ServiceHandle>, Unstartable> {
        let (snapshot, swapped) = (Arc::clone(&self.snapshot), self.reloader.swapped());
        let balance =
            server.add_service(background_service("balance", Balance { snapshot, swapped }));
        balance.add_dependency(bootstrap);
        let keeper = Keeper::new(keeper::Given {
            registry: Arc::clone(&self.registry),
            owners: Arc::clone(&self.owners),
            history: Arc::clone(&self.history),
            usage: Arc::clone(usage),
            snapshot: Arc::clone(&self.snapshot),
            swapped: self.reloader.swapped(),
            store,
            redis: self.snapshot.load().config.redis.clone(),
            desk: Arc::clone(&self.desk),
        });
        let keeper = keeper.map_err(Unstartable::Redis)?;
        let (reloader, configured) = (Arc::clone(&self.reloader), keeper.configured());
        let keeper = server.add_service(background_service("keeper", keeper));
        keeper.add_dependency(bootstrap);
        server.add_service(background_service("teller", self.teller()));
        let follower = Follower { reloader, configured };
        let follower = server.add_service(background_service("shelf", follower));
        follower.add_dependency(&keeper);
        let clerks = Clerks {
            audit: Arc::clone(&self.audit),
            snapshot: Arc::clone(&self.snapshot),
            swapped: self.reloader.swapped(),
            folder: beside.to_owned(),
        };
        server.add_service(background_service("audit", clerks)).add_dependency(bootstrap);
        let (audit, snapshot) = (Arc::clone(&self.audit), Arc::clone(&self.snapshot));
        let hook = background_service("audit's webhook", Hook { audit, snapshot });
        server.add_service(hook).add_dependency(bootstrap);
        Ok(vec![balance, keeper, follower])
    }

    /// What tells of requests that are over.
    fn teller(&self) -> Teller {
        let metrics = || Arc::clone(&self.metrics);
        let (snapshot, log) = (Arc::clone(&self.snapshot), Arc::clone(&self.access_log));
        Teller {
            #[cfg(feature = "otlp")]
            exporter: exporter::Exporter {
                snapshot: Arc::clone(&snapshot),
                spans: Arc::clone(&self.spans),
                metrics: metrics(),
            },
            writer: LogWriter { snapshot, log, metrics: metrics() },
        }
    }

    fn admin(&self) -> Option<Arc<Admin>> {
        self.snapshot.load().config.admin.as_ref()?;
        let steward: Arc<Reloader> = Arc::clone(&self.reloader);
        let (snapshot, registry) = (Arc::clone(&self.snapshot), Arc::clone(&self.registry));
        let (last, audit) = (self.reloader.last(), Some(Arc::clone(&self.audit)));
        let desk = admin::Desk::new(snapshot, registry, steward, last, audit);
        Some(Arc::new(Admin::new(Arc::new(desk), Arc::clone(&self.metrics))))
    }

    fn bounded<A>(&self, app: &Arc<A>, close_idle: watch::Receiver<bool>) -> Bounded<A> {
        let (open, snapshot) = (Arc::clone(&self.open), Arc::clone(&self.snapshot));
        Bounded::new(Arc::clone(app), open, snapshot, close_idle)
    }

    fn handshakes(&self) -> Arc<Handshakes> {
        let (open, snapshot) = (Arc::clone(&self.open), Arc::clone(&self.snapshot));
        Arc::new(Handshakes { open, snapshot })
    }

    fn drain(
        &self,
        stop: watch::Sender<bool>,
        ready: Arc<AtomicBool>,
        succession: Arc<Succession>,
        close_idle: watch::Sender<bool>,
        cut: watch::Sender<bool>,
    ) -> Drain {
        Drain {
            stop,
            ready,
            snapshot: Arc::clone(&self.snapshot),
            active: self.metrics.active.clone(),
            open: Arc::clone(&self.open),
            succession,
            desk: Arc::clone(&self.desk),
            audit: Arc::clone(&self.audit),
            access_log: Arc::clone(&self.access_log),
            spans: Arc::clone(&self.spans),
            close_idle,
            cut,
        }
    }
}

/// Where the audit tells how it is.
fn meters(metrics: &Metrics) -> Meters {
    Meters {
        rows: metrics.audit_rows.clone(),
        dropped: metrics.audit_dropped.clone(),
        untold: metrics.audit_untold.clone(),
        queue: metrics.audit_queue.clone(),
        spool: metrics.audit_spool.clone(),
    }
}

/// Where clients are served.
fn data_service<A>(
    app: A,
    config: &Config,
    certificates: &Certificates,
    handshakes: Arc<Handshakes>,
) -> Result<Service<A>, Unstartable> {
    let mut service = Service::new("data plane".to_owned(), app);
    for given in &config.listen {
        service.add_listener(listen::listener(given, certificates)?);
        info!("listening on {}", listen::describe(given));
    }
    service.endpoints().set_pre_tls_callback(handshakes);
    Ok(service)
}

/// Where operators are.
fn admin_service(given: &config::Admin, admin: Arc<Admin>) -> Service<Listener> {
    let mut service = Service::new("admin".to_owned(), Listener(admin));
    service.add_tcp(&given.listen.to_string());
    info!("listening on {} for operators", given.listen);
    service
}

/// The same for those who come through the data listeners.
fn operators(admin: &Arc<Admin>) -> Operators {
    let (admin, looking) = (Arc::clone(admin), Arc::clone(admin));
    Operators {
        wants_body: Arc::new(move |head, from| looking.wants_body(head, from)),
        answer: Arc::new(move |request, from| {
            let admin = Arc::clone(&admin);
            Box::pin(async move { admin.answer(request, from).await })
        }),
        largest: admin::LARGEST,
        patience: admin::PATIENCE,
    }
}

fn http_options(config: &Config) -> HttpServerOptions {
    let mut http = HttpServerOptions::default();
    http.h2c = true;
    // A connection's last answer says so: pingora counts how often it may be used again.
    http.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION - 1);
    http.h2_idle_timeout = Some(config.timeouts.client_idle);
    http
}

fn run_forever(server: Server, signals: Signals) -> ! {
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    #[expect(clippy::disallowed_methods, reason = "as pingora's own `run_forever` does")]
    std::process::exit(0)
}

/// Serves the stand-in LLM server on its own.
pub fn run_mock(address: SocketAddr, options: mock::Options) -> Result<Infallible, Unstartable> {
    let sockets = Sockets::open([address].into_iter(), Vec::new())?;
    let mut server = Server::new_with_opt_and_conf(None, settings::plain());
    server.bootstrap();
    let service = mock::service(&address.to_string(), options);
    server.add_service(Seated { service, sockets });
    info!("the mock listens on {address}");
    server.run_forever()
}
