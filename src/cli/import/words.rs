//! Texts of another program as texts of a `forebay.yaml`: references to the environment stay
//! references, and secrets become some.

use std::collections::BTreeMap;

use super::listing::Listing;
use super::source::Item;

/// How one program writes its texts, and what becomes of the secrets among them.
pub struct Words<'a> {
    pub listing: &'a Listing,
    /// Whether secrets that are written out stay in the result.
    pub with_secrets: bool,
    /// Whether a text that is `os.environ/NAME` stands for a variable.
    pub os_environ: bool,
    /// Values that the file itself gives variables, where they are to be written out.
    pub given: BTreeMap<String, String>,
}

// === impl Words ===

impl Words<'_> {
    /// A text that may be shown.
    pub fn text(&self, text: &str) -> String {
        if self.os_environ
            && let Some(name) = text.strip_prefix("os.environ/")
            && is_name(name)
        {
            return self.variable(name);
        }
        references(text)
    }

    /// A reference to a variable.
    pub fn variable(&self, name: &str) -> String {
        match self.given.get(name) {
            Some(value) => format!("${{{name}:-{value}}}"),
            None => format!("${{{name}}}"),
        }
    }

    /// Whether the text depends on the environment.
    pub fn refers(&self, text: &str) -> bool {
        has_reference(&self.text(text))
    }

    /// The secret of `item`, which is thereby taken. One that is written out becomes a variable,
    /// with a name made of `wanted`.
    pub fn secret(&self, item: &Item, wanted: &str) -> Option<String> {
        let text = item.taken()?;
        let words = self.text(text);
        // What people write where a key is asked for and none is needed.
        let none = ["none", "null", "empty", "dummy", "anything", "not-needed", "no-key"];
        let none = none.contains(&text.to_ascii_lowercase().as_str());
        if none || self.with_secrets || has_reference(&words) {
            return Some(words);
        }
        Some(format!("${{{}}}", self.listing.variable(wanted, text, item.location)))
    }
}

/// The text with `${NAME}`, `${NAME:-default}` and `${NAME:default}` as references, and every other
/// dollar as a dollar.
fn references(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        words.push_str(before);
        let inside = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        if let Some((reference, behind)) = inside.and_then(|(i, b)| Some((reference(i)?, b))) {
            words.push_str(&reference);
            rest = behind;
        } else {
            // Alone it may stand as it is; before a brace or another one it would mean something.
            let twice = after.starts_with(['{', '$']) || words.ends_with('$');
            words.push_str(if twice { "$$" } else { "$" });
            rest = after;
        }
    }
    words.push_str(rest);
    words
}

fn reference(inside: &str) -> Option<String> {
    match inside.split_once(':') {
        None => is_name(inside).then(|| format!("${{{inside}}}")),
        Some((name, default)) => {
            let default = default.strip_prefix('-').unwrap_or(default);
            let sound = is_name(name) && !default.contains("${");
            sound.then(|| format!("${{{name}:-{default}}}"))
        }
    }
}

fn has_reference(words: &str) -> bool {
    words.replace("$$", "").contains("${")
}

fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    letters && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_stay_and_other_dollars_are_dollars() {
        let cases = [
            ("plain", "plain"),
            ("${A}", "${A}"),
            ("${A:-b}/v1", "${A:-b}/v1"),
            ("${A:b}", "${A:-b}"),
            ("${A:}", "${A:-}"),
            ("cost: 5$", "cost: 5$"),
            ("$x", "$x"),
            ("$$", "$$$$"),
            ("${not a name}", "$${not a name}"),
            ("${", "$${"),
        ];
        for (text, expected) in cases {
            assert_eq!(references(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_escaped_is_no_reference() {
        assert!(has_reference("a${B}"));
        assert!(!has_reference("a$${B}"));
    }
}
