//! The replicas of one provider: which of them takes the next request.

mod breaker;
mod catalogue;
mod discovery;
mod health;
mod peer;
mod pool;
mod replica;

pub use self::catalogue::{Catalogue, ModelCard, Question};
pub use self::peer::{InvalidAuthority, PeerTemplate};
pub use self::pool::{Health, Pick, Pool, ReplicaStatus};
pub use self::replica::{InFlight, Replica};
