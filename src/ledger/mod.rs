//! What was used, and what it costs. Pure: no store, no clock.

mod estimate;
mod prices;
mod usage;

#[cfg(test)]
mod tests;

pub use self::estimate::estimate_prompt;
pub use self::prices::{Price, Prices};
pub use self::usage::{UsageBook, Used, UsedBy};
