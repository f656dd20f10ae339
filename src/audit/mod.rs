//! What happened: one record for each answered request.

mod record;

pub use self::record::{Record, Spent};
