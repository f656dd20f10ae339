//! The text in `{"input":"…"}`, taken out while it comes.

/// Reads the arguments of a function that stands in for a tool of free text, in pieces cut anywhere,
/// and gives the text as far as it is known.
///
/// Models mostly write the object they were asked for. What does not begin like it is the text itself.
#[derive(Clone, Debug, Default)]
pub struct FreeText {
    place: Place,
    /// What has been read of the object's beginning, or of an escape behind its backslash.
    held: String,
    /// The first half of a pair of surrogates, whose second may follow.
    half: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the text's first character.
    #[default]
    Head,
    Text,
    /// In the text, behind a backslash.
    Escape,
    /// Behind the text.
    Tail,
    /// It is not the object that was asked for: everything is text.
    Raw,
}

/// The most an object's beginning may have, white space included, before it is taken for text.
const LONGEST_HEAD: usize = 64;

impl FreeText {
    /// The text that this piece of the object adds.
    pub fn push(&mut self, piece: &str) -> String {
        let mut text = String::with_capacity(piece.len());
        for c in piece.chars() {
            match self.place {
                Place::Head => self.step_head(c, &mut text),
                Place::Text => self.step_text(c, &mut text),
                Place::Escape => self.step_escape(c, &mut text),
                Place::Tail => {}
                Place::Raw => text.push(c),
            }
        }
        text
    }

    fn step_head(&mut self, c: char, text: &mut String) {
        self.held.push(c);
        self.place = match head(&self.held) {
            Head::Begun if self.held.len() <= LONGEST_HEAD => return,
            Head::Whole => Place::Text,
            Head::Empty => Place::Tail,
            Head::Begun | Head::Other => {
                text.push_str(&self.held);
                Place::Raw
            }
        };
        self.held.clear();
    }

    fn step_text(&mut self, c: char, text: &mut String) {
        if c == '\\' {
            self.place = Place::Escape;
            return;
        }
        self.end_pair(text);
        match c {
            '"' => self.place = Place::Tail,
            _ => text.push(c),
        }
    }

    fn step_escape(&mut self, c: char, text: &mut String) {
        self.held.push(c);
        let digits = self.held.strip_prefix('u');
        match digits {
            Some(digits) if digits.len() < 4 && (digits.is_empty() || c.is_ascii_hexdigit()) => {
                return;
            }
            Some(digits) => match u16::from_str_radix(digits, 16) {
                Ok(unit) => self.push_unit(unit, text),
                Err(_) => self.push_as_written(text),
            },
            None => {
                self.end_pair(text);
                match c {
                    '"' | '\\' | '/' => text.push(c),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    _ => self.push_as_written(text),
                }
            }
        }
        self.held.clear();
        self.place = Place::Text;
    }

    fn push_unit(&mut self, unit: u16, text: &mut String) {
        if (0xDC00..0xE000).contains(&unit)
            && let Some(half) = self.half.take()
        {
            text.extend(char::decode_utf16([half, unit]).flatten());
            return;
        }
        self.end_pair(text);
        match char::from_u32(unit.into()) {
            Some(c) => text.push(c),
            None if unit < 0xDC00 => self.half = Some(unit),
            None => text.push(char::REPLACEMENT_CHARACTER),
        }
    }

    /// What is no escape of JSON's.
    fn push_as_written(&mut self, text: &mut String) {
        self.end_pair(text);
        text.push('\\');
        text.push_str(&self.held);
    }

    /// Half a pair, and no second half behind it.
    fn end_pair(&mut self, text: &mut String) {
        if self.half.take().is_some() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

enum Head {
    /// Up to the text's opening quote.
    Whole,
    Begun,
    /// `{}`
    Empty,
    Other,
}

/// Whether this is the object's beginning, white space allowed between its tokens.
fn head(held: &str) -> Head {
    let mut rest = held;
    for token in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        match rest.strip_prefix(token) {
            Some(behind) => rest = behind,
            None if token.starts_with(rest) => return Head::Begun,
            None if rest == "}" && token == "\"input\"" => return Head::Empty,
            None => return Head::Other,
        }
    }
    Head::Whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(json: &str, at: usize) -> String {
        let mut text = FreeText::default();
        let chars: Vec<char> = json.chars().collect();
        let pieces = chars.chunks(at.max(1)).map(|piece| piece.iter().collect::<String>());
        pieces.map(|piece| text.push(&piece)).collect()
    }

    #[test]
    fn the_text_comes_as_soon_as_it_is_known() {
        let mut text = FreeText::default();
        let pieces = [" {\"inp", "ut\" : \"*** Be", "gin\\", "nPatch\\u00", "e4", "\"", "} "];
        let told: Vec<String> = pieces.iter().map(|piece| text.push(piece)).collect();
        assert_eq!(told, ["", "*** Be", "gin", "\nPatch", "ä", "", ""]);
    }

    #[test]
    fn what_is_not_the_object_is_the_text() {
        for raw in ["*** Begin Patch", r#"{"patch":"x"}"#, "\"input\"", r#"{"input":7}"#, "[]"] {
            assert_eq!(in_pieces(raw, 1), raw);
        }
        let blank = " ".repeat(LONGEST_HEAD + 1);
        assert_eq!(in_pieces(&blank, 7), blank);
    }

    #[test]
    fn an_empty_object_is_no_text() {
        assert_eq!(in_pieces("{ }", 1), "");
    }

    #[test]
    fn halves_of_pairs_and_what_is_no_escape_do_not_stop_the_text() {
        assert_eq!(in_pieces(r#"{"input":"\ud83d\ude00"}"#, 1), "😀");
        assert_eq!(
            in_pieces(r#"{"input":"a\ud83db\ude00c\ud83d"}"#, 1),
            "a\u{FFFD}b\u{FFFD}c\u{FFFD}"
        );
        assert_eq!(
            in_pieces(r#"{"input":"\ud83d\ud83d\ude00\ud83d\u0041"}"#, 1),
            "\u{FFFD}😀\u{FFFD}A"
        );
        assert_eq!(in_pieces(r#"{"input":"\d+\u12x"}"#, 1), r"\d+\u12x");
    }

    proptest! {
        #[test]
        fn any_text_comes_out_whatever_the_cut(text: String, at in 1_usize..9) {
            let json = serde_json::json!({ "input": text }).to_string();
            prop_assert_eq!(in_pieces(&json, at), text);
        }
    }
}
