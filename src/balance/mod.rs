//! The replicas of one provider: which of them takes the next request.

mod affinity;
mod blocks;
mod bound;
mod breaker;
mod catalogue;
mod choices;
mod discovery;
mod drain;
mod gate;
mod health;
mod kv;
mod line;
mod load;
mod peer;
mod pool;
mod question;
mod replica;
mod report;
mod request;
mod seen;
mod watch;

pub use self::catalogue::{Catalogue, ModelCard};
pub use self::choices::{Choices, Reason};
pub use self::gate::{Entry, Gate, Place, Queue, Shed, Ticket, Why};
pub use self::kv::{Exact, Source, follow, learn};
pub use self::line::Ask;
pub use self::load::{Load, Reported};
pub use self::peer::{InvalidAuthority, PeerTemplate};
pub use self::pool::{Health, Pick, Pool, ReplicaStatus};
pub use self::question::{Question, read_body};
pub use self::replica::{InFlight, Replica};
pub use self::report::Report;
pub use self::request::{Prompt, Request, Unknown, session_of};
pub use self::watch::watch_loads;
