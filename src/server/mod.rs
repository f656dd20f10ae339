//! Assembles pingora's server: listeners, the background work, and the way down.

mod background;
mod connections;
mod drain;
mod heads;
mod listen;
mod settings;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use log::info;
use pingora::apps::HttpServerOptions;
use pingora::proxy::http_proxy;
use pingora::server::Server;
use pingora::server::configuration::Opt;
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use tokio::sync::watch;

use self::background::Balance;
use self::connections::Bounded;
use self::drain::Drain;
use self::heads::Punctual;
use crate::admin;
use crate::config::Config;
use crate::mock;
use crate::proxy::Gateway;
use crate::snapshot::{Snapshot, Uncompilable};
use crate::telemetry::Metrics;

/// What the command line says about how to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Go to the background.
    pub daemon: bool,
    /// Take the sockets over from a running server.
    pub upgrade: bool,
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
    #[error("the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Puts a configuration together as far as it goes without listening.
pub fn check(config: Config) -> Result<(), Unstartable> {
    settings::pingora(&config)?;
    for given in &config.listen {
        listen::listener(given)?;
    }
    Snapshot::compile(config)?;
    Ok(())
}

/// Serves until told to stop; returns only when it cannot start.
pub fn run(config: Config, options: Options) -> Result<Infallible, Unstartable> {
    let settings = settings::pingora(&config)?;
    // With sockets to take over, the addresses are in use, and rightly so.
    if !options.upgrade {
        let admin = config.admin.iter().map(|admin| admin.listen);
        config.listen.iter().map(|given| given.address).chain(admin).try_for_each(listen::probe)?;
    }
    let mut opt = Opt::default();
    (opt.daemon, opt.upgrade) = (options.daemon, options.upgrade);
    let mut server = Server::new_with_opt_and_conf(opt, settings);
    server.bootstrap();

    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::compile(config)?));
    let metrics = Arc::new(Metrics::new()?);
    let ready = Arc::new(AtomicBool::new(true));
    let cut = watch::Sender::new(false);
    let config = snapshot.load();

    // The data plane waits for the first look at the providers: before it, no request could go
    // anywhere.
    let balance = Balance { snapshot: Arc::clone(&snapshot) };
    let balance = server.add_service(background_service("balance", balance));

    let gateway = Gateway {
        snapshot: Arc::clone(&snapshot),
        metrics: Arc::clone(&metrics),
        owners: Arc::default(),
        ready: Arc::clone(&ready),
        cut: cut.subscribe(),
    };
    let mut proxy = http_proxy(&server.configuration, gateway);
    let mut http = HttpServerOptions::default();
    http.h2c = true;
    http.h2_idle_timeout = Some(config.config.timeouts.client_idle);
    proxy.server_options = Some(http);
    let app = Punctual::new(proxy, &config.config.timeouts);
    let app = Bounded::new(
        app,
        metrics.connections.clone(),
        &config.config.limits,
        &config.config.timeouts,
    );
    let mut data = Service::new("data plane".to_owned(), app);
    for given in &config.config.listen {
        data.add_listener(listen::listener(given)?);
        info!("listening on {}", listen::describe(given));
    }
    let data = server.add_service(data);
    data.add_dependency(&balance);

    if let Some(given) = &config.config.admin {
        let app = admin::Metrics::new(Arc::clone(&snapshot), Arc::clone(&metrics));
        let mut service = Service::new("admin".to_owned(), app);
        service.add_tcp(&given.listen.to_string());
        server.add_service(service).add_dependency(&balance);
        info!("listening on {} for operators", given.listen);
    }

    let deadline = config.config.timeouts.drain;
    let drain = Drain { ready, active: metrics.active.clone(), deadline, cut };
    server.add_service(background_service("drain", drain));
    drop(config);
    server.run_forever()
}

/// Serves the stand-in LLM server on its own.
pub fn run_mock(address: SocketAddr, options: mock::Options) -> Result<Infallible, Unstartable> {
    listen::probe(address)?;
    let mut server = Server::new_with_opt_and_conf(None, settings::plain());
    server.bootstrap();
    server.add_service(mock::service(&address.to_string(), options));
    info!("the mock listens on {address}");
    server.run_forever()
}
