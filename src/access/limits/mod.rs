//! How much a caller may: rates, concurrency, tokens, money; in memory, without a clock of its own.
//!
//! A [`Subject`] is who a limit is about: a key, a user, a model. A request *reserves* its worst case
//! with all its subjects, all or nothing ([`Limits::reserve`]), and *settles* what it used
//! ([`Reservation::settle`]); a reservation that is dropped gives its tokens and money back. A
//! request counts from the moment it is let in, whatever becomes of it.
//!
//! Counts are kept per window. Windows are aligned to the clock in UTC: minutes, hours, days, weeks
//! from Monday, months, or from one moment of a cron expression to the next. A settlement goes to
//! the window of its reservation, also when that is over.
//!
//! # How exact a limit is
//!
//! A limit of `cap` lets a request in while `spent + reserved + claim <= cap`: the cap itself may be
//! reached.
//!
//! - [`Mode::Solo`] with one node: this process is the authority. Never more than `cap` is let in.
//! - `Solo` with `n` nodes (one database, no Redis): budgets and quotas go by what the store knew at
//!   the last exchange, so the overshoot is at most what the other nodes let in between two
//!   exchanges. Rates, requests and tokens per minute, and concurrency hold for each node by itself.
//! - [`Mode::Shared`] with `n` nodes: nodes spend what Redis has *leased* to them. Beyond its lease
//!   each may have let in at most one *credit* that Redis has not heard of yet, so that the first
//!   requests of a window need not wait: the larger of `cap / (10 n)` and one request's claim. The
//!   overshoot is at most `n` credits; where all nodes ask throughout the window it is about one
//!   request each. What is leased and not spent is lost to the others until the minute ends; of
//!   budgets and quotas it goes back after 5 s. Rates and concurrency are split evenly, at least
//!   one request for each node.
//! - Redis away: each node goes on with `1/n` of what was known to remain; budgets with 1 % of
//!   their cap on top, split among the nodes. The overshoot is at most what Redis leased since this
//!   node last heard from it, and that 1 %. Then the limit is closed.

mod addresses;
mod bucket;
mod exchange;
mod meter;
mod registry;
mod reserve;
mod standing;
mod subject;
mod terms;
mod window;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

pub use self::addresses::Seen;
pub use self::exchange::{Ask, Granted, Owed};
pub use self::registry::{Limits, Mode};
pub use self::reserve::Reservation;
pub use self::standing::{Detail, Exceeded, LimitKind, Standing, Window};
pub use self::subject::Subject;
pub use self::terms::{Claim, Now, Quota, Terms, Used, Who};
