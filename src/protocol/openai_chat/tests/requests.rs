//! What the tests of requests are made of.

use crate::config::{Dialect, Translation};
use crate::protocol::canonical::{
    Block, Losses, Role, Signature, ToolKind, ToolResult, ToolUse, Turn,
};

pub fn losses(client: Dialect) -> Losses {
    Losses::new(client, Translation::Lenient)
}

pub fn user(blocks: Vec<Block>) -> Turn {
    Turn { role: Role::User, blocks }
}

pub fn assistant(blocks: Vec<Block>) -> Turn {
    Turn { role: Role::Assistant, blocks }
}

pub fn call(id: &str, name: &str, arguments: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: id.to_owned(),
        name: name.to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: arguments.to_owned(),
        signature: None,
    })
}

pub fn result(id: &str, blocks: Vec<Block>, is_error: bool) -> Block {
    Block::ToolResult(ToolResult { id: id.to_owned(), name: None, blocks, is_error })
}

pub fn claude(data: &str) -> Signature {
    Signature { dialect: Dialect::Anthropic, data: data.to_owned() }
}
