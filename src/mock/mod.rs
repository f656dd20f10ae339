//! A stand-in LLM server, for trying things out and for tests: every endpoint answers, at once and
//! always the same.
//!
//! It is reached in two ways: over a port ([`service`], which is `forebay mock`), or inside the
//! gateway's own
//! process ([`Connector`], which is the built-in `mock` provider). Both run the same [`App`].
//!
//! `app` alone knows sockets. What is answered is decided by pure functions, one file per endpoint,
//! from an
//! [`Ask`](ask::Ask) to a [`Reply`](reply::Reply).

mod answer;
mod app;
mod ask;
mod batches;
mod chat;
mod completions;
mod connector;
mod converse;
mod desk;
mod embeddings;
mod fault;
mod files;
mod form;
mod frames;
mod gemini;
mod media;
mod messages;
mod models;
mod moderations;
mod options;
mod rank;
mod reply;
mod responses;
mod route;
mod schema;
mod tokens;

pub use app::App;
pub use connector::Connector;
pub use options::{Fail, Options};

use pingora::services::listening::Service;

/// The mock as a service that listens on `address`, for pingora's `Server::add_service`.
#[must_use]
pub fn service(address: &str, options: Options) -> Service<App> {
    let mut service = Service::new("mock".to_owned(), App::new(options));
    service.add_tcp(address);
    service
}
