//! A stream that has gone by, as the one answer it came to.

use bytes::Bytes;

use super::verbs::{Reader, write_response};
use crate::config::Dialect;
use crate::protocol::canonical::{Collector, End, Event, Told};

/// A stream as the answer it comes to, in its own dialect; of one that broke off, what there is of it.
/// `None`: there is nothing of an answer in it.
pub fn assemble(dialect: Dialect, stream: Bytes, told: &Told) -> Option<Vec<u8>> {
    let (mut reader, mut events) = (Reader::new(dialect), Vec::new());
    reader.push(stream, &mut events);
    reader.finish(&mut events);
    let (mut collector, mut begun) = (Collector::default(), false);
    for event in events {
        begun |= matches!(event, Event::Open { .. });
        match collector.push(event) {
            Ok(None) => {}
            Ok(Some(response)) => return Some(write_response(dialect, &response, told)),
            Err(_broken_off) => break,
        }
    }
    let partial = collector.push(Event::End(End::default())).ok().flatten();
    partial.filter(|_| begun).map(|response| write_response(dialect, &response, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_of_a_broken_stream_is_an_answer() {
        let event = |text: &str| {
            format!(
                "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
            )
        };
        let stream = Bytes::from(event("Hel") + &event("lo"));
        let answer = assemble(Dialect::OpenaiChat, stream, &Told::default()).unwrap();
        assert!(String::from_utf8(answer).unwrap().contains(r#""content":"Hello""#));
        let none = assemble(Dialect::OpenaiChat, Bytes::from_static(b"oops"), &Told::default());
        assert_eq!(none, None);
    }
}
