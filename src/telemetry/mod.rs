//! What the gateway tells its operators.

mod access_log;
mod metrics;
mod panics;
mod series;

pub use self::access_log::Entry;
pub use self::metrics::{Metrics, Tokens};
pub use self::panics::watch as watch_panics;
pub use self::series::{Counted, Series};
