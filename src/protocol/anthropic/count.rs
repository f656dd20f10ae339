//! How many tokens a prompt has: `/v1/messages/count_tokens`
//! (<https://docs.anthropic.com/en/api/messages-count-tokens>).

use super::read_request::read_request;
use super::write_request::{Purpose, write};
use crate::protocol::canonical::count::counted;
use crate::protocol::canonical::{Asked, Invalid, Losses, Request, Target, Unreadable};

/// Reads the body: a request without a bound for the answer.
pub fn read_count_request(
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<Request, Invalid> {
    read_request(body, asked, losses)
}

/// Writes the body.
pub fn write_count_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    write(request, to, Purpose::Count, losses)
}

/// Reads the count.
pub fn read_count_response(body: &[u8]) -> Result<u64, Unreadable> {
    counted(body, "input_tokens")
}

/// Writes the count.
pub fn write_count_response(tokens: u64) -> Vec<u8> {
    format!(r#"{{"input_tokens":{tokens}}}"#).into_bytes()
}
