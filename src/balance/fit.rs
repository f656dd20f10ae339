//! Which of a pool's replicas may be given a request at all: those that have joined, and have its model.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use log::info;
use pingora::lb::{Backend, Backends};

use super::pool::replica_of;
use super::replica::Replica;

/// How a pool's replicas differ, as of the last look.
#[derive(Debug, Default)]
pub struct Differences {
    /// Some join, or not all have the same models: each request is looked at.
    any: AtomicBool,
    /// Some have not got their whole share yet.
    warming: AtomicBool,
    /// Replicas may come that nobody has looked at yet.
    looking: AtomicBool,
}

/// What of a pool may take one request.
#[derive(Clone, Copy)]
pub struct Fit<'m> {
    /// The provider's name of the model, when there is a replica that says it has it.
    model: Option<&'m str>,
    /// There are replicas that have joined: those that join are left alone.
    joined: bool,
    /// Some have not got their whole share yet.
    warming: bool,
}

/// What replicas are asked before they join.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub checks: bool,
    pub models: bool,
    pub slow_start: Duration,
}

impl Differences {
    /// Lets in who is known to serve, and gives each the share that is due.
    pub fn look(&self, provider: &str, replicas: &BTreeSet<Backend>, terms: Terms) {
        let (mut differ, mut warming) = (false, false);
        let mut lists = Vec::new();
        for replica in replicas.iter().filter_map(replica_of) {
            let serving = &replica.serving;
            if serving.is_joining() && serving.is_known(terms.checks, terms.models) {
                serving.join(terms.slow_start);
                info!("provider {provider}: {} takes requests", replica.address);
            }
            differ |= serving.is_joining();
            warming |= serving.ramp(terms.slow_start);
            lists.extend(serving.models());
        }
        differ |= lists.windows(2).any(|two| matches!(two, [a, b] if a != b));
        self.warming.store(warming, Relaxed);
        self.any.store(differ || warming, Relaxed);
    }

    /// Replicas are about to come: until they were looked at, each request is.
    pub fn begin(&self) {
        self.looking.store(true, Relaxed);
    }

    /// They have been looked at.
    pub fn end(&self) {
        self.looking.store(false, Relaxed);
    }

    pub fn is_warming(&self) -> bool {
        self.warming.load(Relaxed)
    }

    /// What may take a request for this model; `None`: every replica may.
    pub fn fit<'m>(&self, backends: &Backends, model: Option<&'m str>) -> Option<Fit<'m>> {
        if !self.any.load(Relaxed) && !self.looking.load(Relaxed) {
            return None;
        }
        let set = backends.get_backend();
        let all = || set.iter().filter_map(replica_of);
        let listed = |model: &&str| all().any(|replica| replica.serving.has(model) == Some(true));
        let usable = |backend: &&Backend| {
            backends.ready(backend)
                && replica_of(backend).is_some_and(|it| !it.serving.is_joining())
        };
        Some(Fit {
            model: model.filter(listed),
            joined: set.iter().any(|backend| usable(&backend)),
            warming: self.is_warming(),
        })
    }
}

impl Fit<'_> {
    /// Whether a replica may take it. One that does not tell what it has may have anything.
    pub fn allows(&self, replica: &Arc<Replica>) -> bool {
        let serving = &replica.serving;
        let joins = self.joined && serving.is_joining();
        !joins && self.model.is_none_or(|model| serving.has(model) != Some(false))
    }

    /// Whether a replica's turn is to be used: all of those that have their whole share, and so many
    /// of another's.
    pub fn takes_turn(&self, replica: &Arc<Replica>) -> bool {
        let share = if self.warming { replica.serving.share() } else { 1.0 };
        share >= 1.0 || rand::random::<f64>() < share
    }
}
