//! A member that stands near a body's end, found without what is before it.

use memchr::memmem;
use serde::Deserialize;

/// The value of the last member `name` in `end`, the end of a JSON body, wherever it was cut. Within a
/// string the name's quotes are escaped, so text is not taken for it.
pub fn last_member<'e, T: Deserialize<'e>>(end: &'e [u8], name: &str) -> Option<T> {
    let quoted = format!("\"{name}\"");
    let value = end.get(memmem::rfind(end, quoted.as_bytes())? + quoted.len()..)?;
    let value = value.trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(value).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_member_of_a_name_is_read_and_text_is_none() {
        let end = br#"cut off", "usage": {"a": 1}, "usage" : 7 ,"text":"\"usage\": 8"}"#;
        assert_eq!(last_member::<u64>(end, "usage"), Some(7));
        assert_eq!(last_member::<u64>(b"\"usage\": 7", "use"), None);
        assert_eq!(last_member::<u64>(b"{\"usage\": {}}", "usage"), None);
        assert_eq!(last_member::<u64>(b"\"usage\"", "usage"), None);
    }
}
