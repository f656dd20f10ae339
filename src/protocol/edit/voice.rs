//! What one choice says, after the edits: the state that lasts from chunk to chunk.

use super::thinking::{Separator, Tagger};
use crate::config::{ResponseEdits, Thinking};
use std::borrow::Cow;

/// Where a choice's text stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// In `delta` or `message`, which have a member for reasoning too.
    #[default]
    Message,
    /// In `text` of the completions API, which has none.
    Text,
}

/// The edits' state for one choice.
#[derive(Clone, Debug, Default)]
pub struct Voice {
    pub kind: Kind,
    prefixed: bool,
    separator: Separator,
    tagger: Tagger,
}

/// Text for the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said<'t> {
    pub content: Cow<'t, str>,
    pub reasoning: Cow<'t, str>,
}

impl Voice {
    /// Passes on what a chunk says.  `last`: nothing will follow, so nothing may be held back.
    pub fn say<'t>(
        &mut self,
        edits: &ResponseEdits,
        reasoning: &'t str,
        content: &'t str,
        last: bool,
    ) -> Said<'t> {
        let content = self.prefixed(edits, content);
        match (edits.thinking, self.kind) {
            (Thinking::Strip, _) => {
                Said { reasoning: "".into(), ..self.separated("", content, last) }
            }
            (Thinking::Reasoning | Thinking::ReasoningContent, Kind::Message) => {
                self.separated(reasoning, content, last)
            }
            (Thinking::Tag, Kind::Message) => self.tagged(reasoning, &content, last),
            _ => Said { content, reasoning: reasoning.into() },
        }
    }

    /// Gives up what is held back, when the stream ends without a finish reason.
    pub fn flush(&mut self, edits: &ResponseEdits) -> Said<'static> {
        self.say(edits, "", "", true)
    }

    /// Has the voice nothing to do any more, whatever comes?
    pub fn is_idle(&self, edits: &ResponseEdits) -> bool {
        edits.thinking == Thinking::Passthrough && (self.prefixed || edits.prefix.is_none())
    }

    fn prefixed<'t>(&mut self, edits: &ResponseEdits, content: &'t str) -> Cow<'t, str> {
        if self.prefixed || content.is_empty() {
            return content.into();
        }
        self.prefixed = true;
        match &edits.prefix {
            Some(prefix) => format!("{prefix}{content}").into(),
            None => content.into(),
        }
    }

    fn separated<'t>(&mut self, reasoning: &'t str, content: Cow<'t, str>, last: bool) -> Said<'t> {
        if self.separator.is_plain(&content) {
            return Said { content, reasoning: reasoning.into() };
        }
        let mut parts = self.separator.push(&content);
        if last {
            let rest = self.separator.flush();
            parts.speech.push_str(&rest.speech);
            parts.thinking.push_str(&rest.thinking);
        }
        Said {
            content: parts.speech.into(),
            reasoning: if parts.thinking.is_empty() {
                reasoning.into()
            } else {
                format!("{reasoning}{}", parts.thinking).into()
            },
        }
    }

    fn tagged<'t>(&mut self, reasoning: &str, content: &str, last: bool) -> Said<'t> {
        let mut text = self.tagger.push(reasoning, content);
        if last {
            text.push_str(self.tagger.close());
        }
        Said { content: text.into(), reasoning: "".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(prefix: &str, thinking: Thinking) -> ResponseEdits {
        ResponseEdits { prefix: Some(prefix.into()), thinking }
    }

    fn said(content: &'static str, reasoning: &'static str) -> Said<'static> {
        Said { content: content.into(), reasoning: reasoning.into() }
    }

    #[test]
    fn a_prefix_stands_before_the_first_words_only() {
        let edits = edits("P", Thinking::Passthrough);
        let mut voice = Voice::default();
        assert_eq!(voice.say(&edits, "r", "", false), said("", "r"));
        assert_eq!(voice.say(&edits, "", "a", false), said("Pa", ""));
        assert_eq!(voice.say(&edits, "", "b", true), said("b", ""));
    }

    #[test]
    fn a_prefix_can_open_the_thinking() {
        let edits = edits("<think>\n", Thinking::ReasoningContent);
        let mut voice = Voice::default();
        assert_eq!(voice.say(&edits, "", "a</th", false), said("", "\na"));
        assert_eq!(voice.say(&edits, "", "ink>b", true), said("b", ""));
    }

    #[test]
    fn text_has_no_place_for_reasoning_so_its_tags_stay() {
        let mut voice = Voice { kind: Kind::Text, ..Voice::default() };
        let edits = edits("", Thinking::Reasoning);
        assert_eq!(voice.say(&edits, "", "<think>a", false), said("<think>a", ""));
    }
}
