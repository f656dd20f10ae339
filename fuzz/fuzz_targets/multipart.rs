//! An upload is understood alike however it is cut, and the model's span holds the model's name.
#![no_main]

use forebay::protocol::multipart::{Found, MultipartError, Scanner};
use libfuzzer_sys::fuzz_target;

// The first byte is the size of the pieces; the rest is the body.
fuzz_target!(|input: &[u8]| {
    let [size, body @ ..] = input else { return };
    let whole = scan(body, body.len().max(1));
    assert_eq!(scan(body, usize::from(*size) + 1), whole);
    assert_eq!(scan(body, 1), whole);
    if let Ok(Found::Model { value, span }) = whole {
        let [start, end] = [span.start, span.end].map(|at| usize::try_from(at).expect("fits"));
        assert_eq!(&body[start..end], value.as_bytes());
    }
});

fn scan(body: &[u8], size: usize) -> Result<Found, MultipartError> {
    let mut scanner = Scanner::new("multipart/form-data; boundary=xYz").expect("a boundary");
    let mut found = scanner.push(b"");
    for chunk in body.chunks(size) {
        found = scanner.push(chunk);
    }
    found
}
