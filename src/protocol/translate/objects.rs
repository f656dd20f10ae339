//! Calls with free text, for callers whose tools take objects: the text becomes `{"input": "…"}`.

use std::collections::HashMap;

use crate::config::Dialect;
use crate::protocol::canonical::{Block, Delta, Event, Opening, Response, ToolKind};
use crate::protocol::json::text::quote;

/// What makes objects of free text, where the caller's dialect has no other arguments.
#[derive(Debug, Default)]
pub struct Objects {
    wanted: bool,
    /// Calls under way, by index: whether anything of theirs has gone out.
    open: HashMap<u32, bool>,
}

const BEGIN: &str = r#"{"input":""#;
const END: &str = r#""}"#;

impl Objects {
    pub fn of(client: Dialect) -> Self {
        let knows_text = matches!(client, Dialect::OpenaiChat | Dialect::OpenaiResponses);
        Self { wanted: !knows_text, open: HashMap::new() }
    }

    /// Changes an event; what it gives comes before that.
    pub fn write(&mut self, event: &mut Event) -> Option<Event> {
        if !self.wanted {
            return None;
        }
        match event {
            Event::Open { index, block: Opening::ToolUse { kind, .. } }
                if *kind == ToolKind::Custom =>
            {
                *kind = ToolKind::Function;
                self.open.insert(*index, false);
            }
            Event::Delta { index, delta: Delta::Arguments(text) } => {
                let under_way = self.open.get_mut(index)?;
                let quoted = quote(text);
                let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
                let begin = if std::mem::replace(under_way, true) { "" } else { BEGIN };
                *text = format!("{begin}{inner}");
            }
            Event::Close { index } => {
                let begun = self.open.remove(index)?;
                let end = if begun { END.to_owned() } else { format!("{BEGIN}{END}") };
                return Some(Event::Delta { index: *index, delta: Delta::Arguments(end) });
            }
            _ => {}
        }
        None
    }

    pub fn write_response(&self, response: &mut Response) {
        if !self.wanted {
            return;
        }
        for block in &mut response.blocks {
            if let Block::ToolUse(call) = block
                && call.kind == ToolKind::Custom
            {
                call.kind = ToolKind::Function;
                call.arguments = format!(r#"{{"input":{}}}"#, quote(&call.arguments));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::canonical::{Collector, replay};
    use crate::protocol::canonical::{Stop, ToolUse};

    #[test]
    fn free_text_becomes_an_object_whole_and_in_pieces() {
        let call = ToolUse {
            id: "c".to_owned(),
            name: "sql".to_owned(),
            namespace: None,
            kind: ToolKind::Custom,
            arguments: "SELECT \"a\"\n".to_owned(),
            signature: None,
        };
        let blocks = vec![Block::ToolUse(call)];
        let mut whole = Response { blocks, stop: Stop::ToolUse, ..Response::default() };
        let (mut objects, mut collector) = (Objects::of(Dialect::Anthropic), Collector::default());
        let mut collected = None;
        for mut event in replay(&whole) {
            for event in objects.write(&mut event).into_iter().chain([event]) {
                collected = collector.push(event).unwrap().or(collected);
            }
        }
        objects.write_response(&mut whole);
        assert_eq!(collected, Some(whole.clone()));
        let Block::ToolUse(call) = &whole.blocks[0] else { panic!("a call") };
        assert_eq!(call.arguments, r#"{"input":"SELECT \"a\"\n"}"#);
    }
}
