//! What every answer is made of: the configuration, the store, and who puts changes into force.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::dynamic::Shelf;
use super::refusal::{Answer, Refusal};
use super::throttle::Throttle;
use crate::access::Registry;
use crate::audit::Audit;
use crate::snapshot::{LastReload, Snapshot};
use crate::store::Store;

/// What every answer is made of.
pub struct Desk {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub registry: Arc<Registry>,
    pub steward: Arc<dyn Steward>,
    pub last_reload: Arc<LastReload>,
    pub audit: Option<Arc<Audit>>,
    pub throttle: Throttle,
    /// Held from the check of a change to the configuration until it is in force: what is checked
    /// alone may not fit together.
    pub changing: Mutex<()>,
}

/// Puts configurations into force.
#[async_trait]
pub trait Steward: Send + Sync + 'static {
    /// Reads the file again.
    ///
    /// # Errors
    ///
    /// Every mistake, a line for each. The configuration in force stays.
    async fn reload(&self) -> Result<(), Vec<String>>;

    /// Whether the configuration would hold with this shelf in place of the store's.
    async fn would_hold(&self, shelf: Shelf) -> Result<(), Vec<String>>;

    /// Puts the store's shelf, as it is now, into force.
    async fn follow_store(&self) -> Result<(), Vec<String>>;
}

/// The address a request came from.
#[derive(Clone, Copy, Debug)]
pub struct From(pub IpAddr);

impl Desk {
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        registry: Arc<Registry>,
        steward: Arc<dyn Steward>,
        last_reload: Arc<LastReload>,
        audit: Option<Arc<Audit>>,
    ) -> Self {
        let (throttle, changing) = (Throttle::default(), Mutex::default());
        Self { snapshot, registry, steward, last_reload, audit, throttle, changing }
    }

    /// The store, when it can be reached.
    pub fn store(&self) -> Answer<Store> {
        let away = self.registry.is_configured();
        let missing = || if away { Refusal::store_away() } else { Refusal::no_store() };
        self.registry.store().ok_or_else(missing)
    }
}
