//! `<think>` tags in text: models write their reasoning between them when no server took it out.

const OPENING: &str = "<think>";
const CLOSING: &str = "</think>";

/// Tells thinking from speech in a text that comes in parts.
///
/// Tags are recognised at any place.  The end of a part that may be the beginning of a tag is held
/// back, fewer bytes than a tag has.  A closing tag outside and an opening tag inside are text.
#[derive(Clone, Debug, Default)]
pub struct Separator {
    inside: bool,
    held: String,
}

/// Text, told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub speech: String,
    pub thinking: String,
}

impl Separator {
    /// Takes the next part; gives what is certain.
    pub fn push(&mut self, part: &str) -> Parts {
        let mut parts = Parts::default();
        let joined = std::mem::take(&mut self.held) + part;
        let mut rest = joined.as_str();
        while let Some((before, after)) = rest.split_once(self.tag()) {
            self.side(&mut parts).push_str(before);
            self.inside = !self.inside;
            rest = after;
        }
        let certain = without_tag_start(rest, self.tag());
        self.side(&mut parts).push_str(certain);
        self.held = rest.get(certain.len()..).unwrap_or_default().to_owned();
        parts
    }

    /// Gives what was held back: no tag came of it.
    pub fn flush(&mut self) -> Parts {
        let mut parts = Parts::default();
        *self.side(&mut parts) = std::mem::take(&mut self.held);
        parts
    }

    /// Would this part come out as it goes in?
    pub fn is_plain(&self, part: &str) -> bool {
        !self.inside && self.held.is_empty() && !part.contains('<')
    }

    fn tag(&self) -> &'static str {
        if self.inside { CLOSING } else { OPENING }
    }

    fn side<'p>(&self, parts: &'p mut Parts) -> &'p mut String {
        if self.inside { &mut parts.thinking } else { &mut parts.speech }
    }
}

/// The text without an end that begins `tag`.  A tag's only `<` is its first byte.
fn without_tag_start<'t>(text: &'t str, tag: &str) -> &'t str {
    let parts = text.rfind('<').and_then(|at| text.split_at_checked(at));
    match parts {
        Some((before, end)) if tag.starts_with(end) => before,
        _ => text,
    }
}

/// Adds reasoning to a text, between tags that stay open until speech comes.
#[derive(Clone, Debug, Default)]
pub struct Tagger {
    open: bool,
}

impl Tagger {
    pub fn push(&mut self, reasoning: &str, speech: &str) -> String {
        let mut text = String::new();
        if !reasoning.is_empty() {
            text.push_str(if self.open { "" } else { OPENING });
            text.push_str(reasoning);
            self.open = true;
        }
        if !speech.is_empty() {
            text.push_str(self.close());
            text.push_str(speech);
        }
        text
    }

    /// The closing tag if one is due.
    pub fn close(&mut self) -> &'static str {
        if std::mem::take(&mut self.open) { CLOSING } else { "" }
    }
}

/// The text without its thinking; `None` when there is nothing to take out.
///
/// A block that never closes stays: this is for texts of the past, where it is no thinking that
/// was cut short but text that happens to hold the tag.
pub fn without_thinking(text: &str) -> Option<String> {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, block)) = rest.split_once(OPENING) {
        let Some((_, after)) = block.split_once(CLOSING) else { break };
        kept.push_str(before);
        rest = after;
    }
    if rest.len() == text.len() {
        return None;
    }
    kept.push_str(rest);
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn separate<'p>(parts: impl IntoIterator<Item = &'p str>) -> Parts {
        let mut separator = Separator::default();
        let mut whole = Parts::default();
        let mut add = |parts: Parts| {
            whole.speech.push_str(&parts.speech);
            whole.thinking.push_str(&parts.thinking);
        };
        for part in parts {
            add(separator.push(part));
            assert!(separator.held.len() < CLOSING.len());
        }
        add(separator.flush());
        whole
    }

    fn parts(speech: &str, thinking: &str) -> Parts {
        Parts { speech: speech.into(), thinking: thinking.into() }
    }

    #[test]
    fn tags_are_found_at_any_place() {
        assert_eq!(separate(["a<think>b\nc</think>d<think>e</think>"]), parts("ad", "b\nce"));
    }

    #[test]
    fn an_unclosed_block_is_thinking_to_its_end() {
        assert_eq!(separate(["a<think>b</thi"]), parts("a", "b</thi"));
    }

    #[test]
    fn what_only_looks_like_a_tag_is_text() {
        for text in ["<thin", "a </think> b", "<<think", "<thinking>", "< think>", "<Think>"] {
            assert_eq!(separate([text]), parts(text, ""), "{text}");
        }
        assert_eq!(separate(["<think><think></think>"]), parts("", "<think>"));
        assert_eq!(separate(["<<think>a<</think>"]), parts("<", "a<"));
    }

    #[test]
    fn text_that_cannot_begin_a_tag_is_not_held() {
        let mut separator = Separator::default();
        assert_eq!(separator.push("a < b <t"), parts("a < b ", ""));
        assert_eq!(separator.push("able>"), parts("<table>", ""));
    }

    #[test]
    fn a_tag_reopens_when_reasoning_comes_again() {
        let mut tagger = Tagger::default();
        let text = [tagger.push("a", ""), tagger.push("b", "c"), tagger.push("d", "")].concat();
        assert_eq!(text + tagger.close() + tagger.close(), "<think>ab</think>c<think>d</think>");
    }

    #[test]
    fn history_loses_closed_blocks_only() {
        let without = |text| without_thinking(text);
        assert_eq!(without("<think>a\nb</think>c<think></think>").as_deref(), Some("c"));
        assert_eq!(without("x<think>y</think>z<think>w").as_deref(), Some("xz<think>w"));
        assert_eq!(without("a<think>b"), None);
        assert_eq!(without("a</think>b"), None);
    }

    proptest! {
        #[test]
        fn any_cut_separates_alike(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["<think>", "</think>", "<", "</", "think>", "é", "x\n"]),
                0..12,
            ),
        ) {
            let text = pieces.concat();
            let mut buffer = [0; 4];
            let chars: Vec<String> =
                text.chars().map(|char| char.encode_utf8(&mut buffer).to_owned()).collect();
            let expected = separate([text.as_str()]);
            prop_assert_eq!(&separate(pieces), &expected);
            prop_assert_eq!(separate(chars.iter().map(String::as_str)), expected);
        }
    }
}
