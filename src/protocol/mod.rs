//! The wire formats: bytes in, bytes out; no sockets, no clocks, no logging.
//!
//! A body is read once, strictly ([`json::scan()`]), and changed by splices of its own bytes
//! ([`json::Splice`]), so that what nobody asked to change arrives as it was written.  Streams are
//! cut into events by [`framing::sse`]; [`openai_chat`] knows what stands in them.

pub mod framing;
pub mod json;
pub mod multipart;
pub mod openai_chat;

#[cfg(test)]
mod fixture;
