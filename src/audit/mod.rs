//! What happened: one row for each answered request, whatever its end.
//!
//! A request leaves its [`Record`] in the queue of [`Audit`] and goes. The clerk, of whom there is one,
//! writes rows into a database, waits on the disk while that is away, and puts old rows into archives.

mod archive;
mod clerk;
mod content;
mod file;
mod queue;
mod record;
mod row;
mod spool;
mod table;

pub use self::clerk::{Clerk, Given as ClerkGiven};
pub use self::content::Kept;
pub use self::queue::{Audit, Lines, Meters};
pub use self::record::{Record, Spent};
pub use self::row::Row;
pub use self::table::{MOST, Query, Table};
