//! What the gateway tells its operators.

mod access_log;
mod metrics;

pub use self::access_log::Entry;
pub use self::metrics::{Metrics, Tokens};
