//! Names to targets: what a path asks for, which model a name means, and in which order to try.

pub mod clouds;
mod endpoint;
mod models;
mod plan;
mod schedule;
mod verdict;

pub use self::endpoint::{Call, Endpoint, Local};
pub use self::models::{Model, Models, Target, Unresolved};
pub use self::plan::Leg;
pub use self::verdict::{Failure, Next, judge};
