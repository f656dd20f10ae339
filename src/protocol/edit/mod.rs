//! Bodies as they pass between a caller and a provider of one dialect: what is read in passing, and
//! the edits made in them.
//!
//! Nothing is serialised anew.  An edit replaces the bytes of the members it is about and leaves
//! every other byte of a request, an answer or an event where it was.

mod bounds;
mod choices;
mod delivered;
mod error;
mod history;
mod meter;
mod named;
mod request;
mod response;
mod stream;
mod synthetic;
mod thinking;
mod unseal;
mod usage;
mod voice;

pub use bounds::Bounds;
pub use delivered::Delivered;
pub use error::StreamError;
pub use request::{ChatCap, EditError, Edits, edit_request, wants_usage};
pub use response::edit_response;
pub use stream::{StreamEditor, StreamOptions};
pub use thinking::without_thinking;
pub use unseal::unseal;
pub use usage::{Usage, last_usage, read_usage};
