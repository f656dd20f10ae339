//! Reads the reasoning of earlier turns, by any of the names it goes by.

use serde_json::value::RawValue;

use super::details::dialect_of;
use super::read_request::mistyped;
use super::wire::{Detail, Text};
use crate::config::Dialect;
use crate::protocol::canonical::{Block, Invalid, Signature};
use crate::protocol::json::Object;

/// Takes the reasoning out of an assistant's message called `at`.
///
/// `reasoning_details` (`OpenRouter`'s form) and `thinking_blocks` (`LiteLLM`'s) have the signatures, so
/// they count where they are; `reasoning_content` and `reasoning` are the bare words.
pub(super) fn read_reasoning(message: &mut Object, at: &str) -> Result<Vec<Block>, Invalid> {
    let details = message.array("reasoning_details").map_err(mistyped(at))?.unwrap_or_default();
    let blocks = message.array("thinking_blocks").map_err(mistyped(at))?.unwrap_or_default();
    let content = message.string("reasoning_content").map_err(mistyped(at))?;
    let words = message.string("reasoning").map_err(mistyped(at))?.filter(|it| !it.is_empty());
    let words = content.filter(|it| !it.is_empty()).or(words);
    let mut read = Details::default();
    for detail in details {
        let param = format!("{at}.reasoning_details");
        let fault = |_| Invalid::request(&param, format!("`{param}` must be objects"));
        read.push(&serde_json::from_str(detail.get()).map_err(fault)?);
    }
    if read.blocks.is_empty() {
        for block in blocks {
            read.blocks.extend(thinking(block, &format!("{at}.thinking_blocks"))?);
        }
    }
    let is_bare = |block: &Block| matches!(block, Block::Thinking { text, .. } if text.is_empty());
    let has_words =
        read.blocks.iter().any(|it| matches!(it, Block::Thinking { .. }) && !is_bare(it));
    if let Some(words) = words.filter(|_| !has_words) {
        // A signature without words is theirs.
        match read.blocks.iter_mut().find(|block| is_bare(block)) {
            Some(Block::Thinking { text, .. }) => *text = words,
            _ => read.blocks.insert(0, Block::Thinking { text: words, signature: None }),
        }
    }
    Ok(read.blocks)
}

/// Details put together: clients hand back the pieces of a stream one by one.
#[derive(Default)]
struct Details {
    blocks: Vec<Block>,
    /// The last detail's number.
    number: Option<u64>,
}

impl Details {
    fn push(&mut self, detail: &Detail) {
        let dialect = dialect_of(Text::said(detail.format.as_ref()));
        let number = detail.index.as_ref().and_then(serde_json::Number::as_u64);
        if let Some(data) = Text::said(detail.data.as_ref()) {
            let data = data.to_owned();
            self.blocks.push(Block::RedactedThinking(Signature { dialect, data }));
            self.number = number;
            return;
        }
        let more = Text::said(detail.text.as_ref().or(detail.summary.as_ref()));
        let data = Text::said(detail.signature.as_ref());
        let signed = data.map(|data| Signature { dialect, data: data.to_owned() });
        let numbers = (number, self.number);
        match self.blocks.last_mut() {
            _ if more.is_none() && signed.is_none() => {}
            // The next piece of the same: of its number, or a signature alone.
            Some(Block::Thinking { text, signature: signature @ None })
                if matches!(numbers, (Some(new), Some(old)) if new == old)
                    || (more.is_none() && numbers.0.is_none()) =>
            {
                text.push_str(more.unwrap_or_default());
                *signature = signed;
            }
            _ => {
                let text = more.unwrap_or_default().to_owned();
                self.blocks.push(Block::Thinking { text, signature: signed });
                self.number = number;
            }
        }
    }
}

/// A block of Anthropic's, as `LiteLLM` hands it on; `None` for what is neither.
pub(super) fn thinking(block: &RawValue, at: &str) -> Result<Option<Block>, Invalid> {
    let fault = |_| Invalid::request(at, format!("`{at}` must be objects"));
    let mut block = Object::parse(block.get(), "").map_err(fault)?;
    let kind = block.string("type").map_err(mistyped(at))?;
    let signed = |data| Signature { dialect: Dialect::Anthropic, data };
    Ok(match kind.as_deref() {
        Some("thinking") => {
            let text = block.string("thinking").map_err(mistyped(at))?.unwrap_or_default();
            let data = block.string("signature").map_err(mistyped(at))?;
            let signature = data.filter(|data| !data.is_empty()).map(signed);
            Some(Block::Thinking { text, signature })
        }
        Some("redacted_thinking") => {
            let data = block.string("data").map_err(mistyped(at))?;
            data.map(|data| Block::RedactedThinking(signed(data)))
        }
        _ => None,
    })
}
