//! Reads the recorded HTTP answers under `tests/fixtures`: head, then the body as it came.

use bytes::Bytes;

/// The body's chunks as the server sent them; one when it was not chunked.
pub fn chunks(http: &'static [u8]) -> Vec<Bytes> {
    let end = memchr::memmem::find(http, b"\r\n\r\n").expect("a head") + 4;
    let (head, mut rest) = http.split_at(end);
    if memchr::memmem::find(head, b"transfer-encoding: chunked").is_none() {
        return vec![Bytes::from_static(rest)];
    }
    let mut chunks = Vec::new();
    loop {
        let line = memchr::memmem::find(rest, b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&rest[..line]).expect("a number");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal number");
        if size == 0 {
            return chunks;
        }
        let start = line + 2;
        chunks.push(Bytes::from_static(&rest[start..start + size]));
        rest = &rest[start + size + 2..];
    }
}

/// The whole body.
pub fn body(http: &'static [u8]) -> Vec<u8> {
    chunks(http).concat()
}
