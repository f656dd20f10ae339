//! What an HTTP/2 connection may take up.

use pingora::protocols::http::v2::server::{H2Options, default_h2_options};

use crate::config::Limits;

/// Requests at once on one connection.
const STREAMS: u32 = 100;
/// What a client may send of one body before it is read. A line of 50 ms carries 5 MiB a second
/// with it; HTTP/2's own 64 KiB would make uploads crawl.
const STREAM_WINDOW: u32 = 256 << 10;
/// … and of all bodies of a connection: what its client can make us hold.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What of an answer waits for its client to read.
const SEND_BUFFER: usize = 64 << 10;

/// Streams of a connection that we had to reset for a mistake of its client: h2's 1,024 are work for
/// a flood.
const MISTAKES: usize = 100;

/// Pingora's options with our bounds. Floods end a connection by h2's own counts: of streams reset
/// by the client before they were served (20), of answers to its mistakes (`MISTAKES`), of frames that
/// continue a head, of data frames with next to nothing in them. `frames` counts the others.
pub fn options(limits: &Limits) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.headers).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_local_error_reset_streams(Some(MISTAKES))
        .max_send_buffer_size(SEND_BUFFER);
    options
}
