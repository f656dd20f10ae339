//! Names in which `*` stands for anything, nothing included.

use memchr::memchr;

/// Whether a glob is a whole name's. Letters are compared as they are.
pub fn glob_matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*').map(str::as_bytes);
    let Some(mut rest) = parts.next().and_then(|first| name.as_bytes().strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // What comes first is as good as any: it leaves the most for the parts behind it.
    for part in parts {
        match behind(rest, part) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What stands behind a part. Names are short, so that preparing a search would take longer than it.
fn behind<'a>(mut text: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    let Some(&first) = part.first() else { return Some(text) };
    loop {
        text = text.get(memchr(first, text)?..)?;
        match text.strip_prefix(part) {
            Some(behind) => return Some(behind),
            None => text = text.get(1..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything() {
        let cases = [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "agpt-4", false),
            ("*", "", true),
            ("**", "a", true),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "-mini-", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abbc", true),
            ("*aab*", "aaab", true),
            ("*é*", "aéa", true),
            ("a*b*c", "acb", false),
            ("*claude-*-4*", "us.anthropic.claude-opus-4-5-v1:0", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (glob, name, expected) in cases {
            assert_eq!(glob_matches(glob, name), expected, "{glob} {name}");
        }
    }
}
