//! A caller that is known, and what it may do.

/// A caller that is known.
#[derive(Debug)]
pub struct Principal {
    /// The key's name.
    pub name: String,
    allowed_models: Option<Vec<String>>,
}

impl Principal {
    pub fn new(name: &str, allowed_models: Option<Vec<String>>) -> Self {
        Self { name: name.to_owned(), allowed_models }
    }

    /// May this caller use a model by this name?
    pub fn may_use(&self, model: &str) -> bool {
        let Some(allowed) = &self.allowed_models else { return true };
        allowed.iter().any(|glob| glob_matches(glob, model))
    }
}

/// `*` stands for any run of characters. Linear in both lengths but for the last `*`, to which
/// alone it ever goes back.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut pos) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while pos < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                back = Some((at, pos));
                at += 1;
            }
            Some(byte) if Some(byte) == text.get(pos) => {
                at += 1;
                pos += 1;
            }
            _ => {
                let Some((star, from)) = back else { return false };
                back = Some((star, from + 1));
                at = star + 1;
                pos = from + 1;
            }
        }
    }
    glob.iter().skip(at).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, text, expected) in [
            ("llama-*", "llama-70b", true),
            ("llama-*", "my-llama-70b", false),
            ("*", "anything", true),
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("*-mini", "gpt-4o-mini", true),
            ("g*o*i", "gpt-4o-mini", true),
            ("g*o*x", "gpt-4o-mini", false),
            ("", "x", false),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn no_list_allows_all_and_an_empty_one_nothing() {
        assert!(Principal::new("a", None).may_use("x"));
        assert!(!Principal::new("a", Some(Vec::new())).may_use("x"));
    }
}
