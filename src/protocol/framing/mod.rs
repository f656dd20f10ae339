//! How a stream of bytes is cut into messages.

pub mod eventstream;
pub mod sse;
pub mod websocket;
pub mod whole;
