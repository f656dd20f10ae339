//! What the gateway tells its operators.

mod access_log;
mod metrics;

pub use self::access_log::{Entry, TARGET as ACCESS_LOG};
pub use self::metrics::{Metrics, Tokens};
