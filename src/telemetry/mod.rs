//! What the gateway tells its operators.

mod access_log;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod panics;
mod series;
mod trace;

pub use self::access_log::{AccessLog, Entry, Line};
pub use self::metrics::{Metrics, Tokens};
#[cfg(feature = "otlp")]
pub use self::otlp::encode as encode_spans;
pub use self::panics::watch as watch_panics;
pub use self::series::{Counted, Series};
pub use self::trace::{Attribute, Kind as SpanKind, Parcel, Span, SpanContext, Spans};
