//! Changing a head where it counts.
//!
//! Pingora's heads keep each name twice, as it was written and as it is compared, and read a name anew
//! whenever a header is set. Without the spelling a header costs less than half. Names are
//! compared without regard to case (RFC 9110 §5.1); pingora still writes the known ones as usual.

use http::{HeaderMap, Request, Response, request, response};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// Changes the headers of an answer, whose names lose their spelling.
pub fn edit(head: &mut ResponseHeader, change: impl FnOnce(&mut HeaderMap)) -> Result<()> {
    let usual = head.status.canonical_reason();
    let unusual = head.get_reason_phrase().filter(|reason| Some(*reason) != usual);
    let unusual = unusual.map(str::to_owned);
    let blank = ResponseHeader::from(Response::new(()).into_parts().0);
    let mut parts = response::Parts::from(std::mem::replace(head, blank));
    change(&mut parts.headers);
    *head = ResponseHeader::from(parts);
    match unusual {
        Some(reason) => head.set_reason_phrase(Some(&reason)),
        None => Ok(()),
    }
}

/// Changes the headers of a request, whose names lose their spelling. Its target must be that of its
/// URI.
pub fn edit_request(
    head: &mut RequestHeader,
    change: impl FnOnce(&mut HeaderMap) -> Result<()>,
) -> Result<()> {
    let blank = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = request::Parts::from(std::mem::replace(head, blank));
    let changed = change(&mut parts.headers);
    *head = RequestHeader::from(parts);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_all_but_its_spelling() {
        let mut head = ResponseHeader::build(429, None).unwrap();
        head.insert_header("X-Odd-Name", "a").unwrap();
        head.append_header("X-Odd-Name", "b").unwrap();
        head.insert_header("content-type", "text/plain").unwrap();
        head.set_reason_phrase(Some("Slow Down")).unwrap();
        edit(&mut head, |headers| {
            headers.insert("x-new", "c".parse().unwrap());
        })
        .unwrap();
        assert_eq!((head.status.as_u16(), head.get_reason_phrase()), (429, Some("Slow Down")));
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        let expected = "x-odd-name: a\r\nx-odd-name: b\r\nContent-Type: text/plain\r\nx-new: c\r\n";
        assert_eq!(String::from_utf8(wire).unwrap(), expected);
    }

    #[test]
    fn a_request_keeps_all_but_its_spelling() {
        let mut head = RequestHeader::build("POST", b"/v1/x?y=z", None).unwrap();
        head.insert_header("X-Odd-Name", "a").unwrap();
        edit_request(&mut head, |headers| {
            headers.insert(http::header::HOST, "b".parse().unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!((head.method.as_str(), head.raw_path()), ("POST", &b"/v1/x?y=z"[..]));
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        assert_eq!(String::from_utf8(wire).unwrap(), "x-odd-name: a\r\nHost: b\r\n");
    }
}
