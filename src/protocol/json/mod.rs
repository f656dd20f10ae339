//! JSON as bytes: find the members that matter, replace only them.
//!
//! [`scan()`] reads a body once, by stricter rules than JSON's own, so that this gateway and the
//! server behind it cannot read two different things in the same bytes.  [`Splice`] then changes
//! single spans; all other bytes go out as they came in.

mod below;
pub(in crate::protocol) mod cursor;
mod last;
mod object;
mod runs;
pub mod scan;
pub mod splice;
pub(in crate::protocol) mod text;

pub use below::strings_below;
pub(in crate::protocol) use last::last_member;
pub use object::{Mistyped, Object};
pub use scan::{Member, Members, ScanError, WrongType, scan};
pub use splice::Splice;
pub use text::read;
