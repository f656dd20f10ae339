//! Media in URLs: `data:` ones have the bytes themselves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// The media type and the base64 of a `data:` URL (RFC 2397); `None` for any other URL.
pub(super) fn data_url(url: &str) -> Option<(String, String)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let (head, is_base64) = match head.strip_suffix(";base64") {
        Some(head) => (head, true),
        None => (head, false),
    };
    // `text/plain;charset=utf-8`: the type is what comes first.
    let media_type = head.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media_type = if media_type.is_empty() { "text/plain".to_owned() } else { media_type };
    if is_base64 {
        return Some((media_type, data.to_owned()));
    }
    Some((media_type, STANDARD.encode(percent_decode_str(data).collect::<Vec<u8>>())))
}

/// The text that `data` is the base64 of, if it is one.
pub(super) fn text(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_url_is_its_type_and_its_base64() {
        let png = Some(("image/png".to_owned(), "AAAA".to_owned()));
        assert_eq!(data_url("data:image/png;base64,AAAA"), png);
        assert_eq!(data_url("data:image/PNG;name=x;base64,AAAA"), png);
        assert_eq!(data_url("https://example.com/a.png"), None);
        let plain = data_url("data:,a%20b").unwrap();
        assert_eq!((plain.0.as_str(), text(&plain.1).as_deref()), ("text/plain", Some("a b")));
    }
}
