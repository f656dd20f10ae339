//! Answers as providers of the responses API write them.

use super::read_items::Answer;
use crate::protocol::canonical::{Block, Response, Unreadable};

/// Reads an answer.
pub fn read_response(body: &[u8]) -> Result<Response, Unreadable> {
    let answer = Answer::read(body)?;
    if let Some(fault) = answer.fault(body) {
        return Err(fault);
    }
    let blocks = answer.blocks()?;
    let called = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
    Ok(Response {
        id: answer.id.as_deref().unwrap_or_default().to_owned(),
        model: answer.model.as_deref().unwrap_or_default().to_owned(),
        created: answer.created(),
        blocks,
        stop: answer.stop(called),
        usage: answer.usage(),
    })
}
