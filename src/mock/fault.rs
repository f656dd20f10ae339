//! When the mock fails, and what is left of its reply then.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::options::Fail;
use super::reply::{Body, DONE, Reply, event, named_event};
use super::{frames, gemini};

/// What every failure says.
const SAID: &str = "This mock was told to fail.";

/// The failure a mock was told to have, and the calls counted towards it.
#[derive(Debug)]
pub struct Fault {
    fail: Option<Fail>,
    posts: AtomicU32,
}

/// What becomes of a reply.
#[derive(Debug)]
pub enum Fate {
    /// It is sent.
    Sent(Reply),
    /// It is sent up to so many pieces, and then the connection is closed.
    Cut(Reply, usize),
    /// It is never sent.
    Withheld,
}

impl Fault {
    /// Nothing has been counted yet.
    pub fn new(fail: Option<Fail>) -> Self {
        Self { fail, posts: AtomicU32::new(0) }
    }

    /// Decides over the reply to the next call. Only `POST` fails: a failing mock is healthy to a
    /// health check.
    pub fn next(&self, method: &Method, reply: Reply) -> Fate {
        let Some(fail) = self.fail.filter(|_| method == Method::POST) else {
            return Fate::Sent(reply);
        };
        let number = self.posts.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        match fail {
            Fail::Status { status, every } if number.checked_rem(every) == Some(0) => {
                Fate::Sent(failure(status))
            }
            Fail::Status { .. } => Fate::Sent(reply),
            Fail::Hang => Fate::Withheld,
            Fail::Cut { after } => cut(reply, usize::try_from(after).unwrap_or(usize::MAX)),
            Fail::FirstEventError => Fate::Sent(first_event(&reply)),
        }
    }
}

fn failure(status: u16) -> Reply {
    let kind = match status {
        429 => "rate_limit_error",
        503 => "Service Unavailable",
        400..500 => "invalid_request_error",
        _ => "InternalServerError",
    };
    let mut reply = Reply::refusal(status, kind, SAID, None);
    if status == 429 || status == 503 {
        reply.headers.push(("retry-after", "1".to_owned()));
    }
    reply
}

/// A plain reply is cut after so many bytes, a stream after so many events.
fn cut(mut reply: Reply, after: usize) -> Fate {
    if let Body::Whole(body) = reply.body {
        let mut head = body;
        let tail = head.split_off(after.min(head.len()));
        // Without a head of its own the tail would come first.
        let pieces = if head.is_empty() { vec![tail] } else { vec![head, tail] };
        let sent = pieces.len() - 1;
        reply.body = Body::Stream(pieces);
        return Fate::Cut(reply, sent);
    }
    Fate::Cut(reply, after)
}

/// The shape each dialect gives a failure inside a stream.
fn first_event(reply: &Reply) -> Reply {
    let Body::Stream(pieces) = &reply.body else { return failure(500) };
    if frames::is_framed(reply) {
        return frames::stream(vec![frames::exception("serviceUnavailableException", SAID)]);
    }
    if pieces.first().is_some_and(|first| first.ends_with(b"\r\n")) {
        let error = json!({"error": {"code": 503, "message": SAID, "status": "UNAVAILABLE"}});
        let events = reply.content_type != "application/json";
        let told = if events { gemini::event(&error) } else { format!("[{error}]\r\n").into() };
        return Reply { content_type: reply.content_type, ..Reply::stream(vec![told]) };
    }
    if pieces.first().is_some_and(|first| first.starts_with(b"event: message_start")) {
        let error = json!({"type": "overloaded_error", "message": SAID});
        return Reply::stream(vec![named_event(&json!({"type": "error", "error": error}))]);
    }
    let error = json!({"message": SAID, "type": "InternalServerError",
        "param": null, "code": 500});
    let events: Vec<Bytes> = vec![event(&json!({"error": error})), DONE];
    Reply::stream(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(fail: &str, count: usize) -> Vec<Fate> {
        let fault = Fault::new(Some(fail.parse().unwrap()));
        (0..count).map(|_| fault.next(&Method::POST, Reply::whole("text/plain", "hello"))).collect()
    }

    #[test]
    fn every_third_fails() {
        let status = |fate: &Fate| match fate {
            Fate::Sent(reply) => reply.status,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            fates("429:3", 6).iter().map(status).collect::<Vec<_>>(),
            [200, 200, 429, 200, 200, 429]
        );
    }

    #[test]
    fn a_get_never_fails() {
        let fault = Fault::new(Some(Fail::Hang));
        assert!(matches!(fault.next(&Method::GET, Reply::whole("text/plain", "")), Fate::Sent(_)));
    }

    #[test]
    fn a_plain_reply_is_cut_in_the_middle() {
        let [Fate::Cut(reply, 1)] = &fates("cut:2", 1)[..] else { panic!() };
        let Body::Stream(pieces) = &reply.body else { panic!() };
        assert_eq!(pieces[..], ["he", "llo"]);
    }

    #[test]
    fn a_first_event_error_is_a_stream() {
        let fault = Fault::new(Some(Fail::FirstEventError));
        let Fate::Sent(reply) = fault.next(&Method::POST, Reply::stream(vec![DONE])) else {
            panic!()
        };
        assert_eq!((reply.status, &reply.events()[0]["error"]["code"]), (200, &json!(500)));
    }

    #[test]
    fn a_first_event_error_has_the_shape_of_its_stream() {
        let fault = Fault::new(Some(Fail::FirstEventError));
        let told = |reply: Reply| match fault.next(&Method::POST, reply) {
            Fate::Sent(Reply { body: Body::Stream(pieces), .. }) => pieces.concat(),
            other => panic!("{other:?}"),
        };
        let google = told(Reply::stream(vec![gemini::event(&json!({}))]));
        assert!(google.starts_with(b"data: {\"error\"") && google.ends_with(b"\r\n\r\n"));
        let array =
            Reply { content_type: "application/json", ..Reply::stream(vec!["[{}]\r\n".into()]) };
        let array: serde_json::Value = serde_json::from_slice(&told(array)).unwrap();
        assert_eq!(array[0]["error"]["status"], "UNAVAILABLE");
        let amazon = told(frames::stream(vec![frames::event("messageStart", &json!({}))]));
        let (name, _) = frames::tests::read(&amazon.into());
        assert_eq!(name, "serviceUnavailableException");
    }
}
