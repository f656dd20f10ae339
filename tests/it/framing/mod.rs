//! Hostile bytes: each payload is refused before anything of it reaches the upstream, or reaches it
//! as one canonical request; and whatever follows on its connection is answered for itself, or not
//! at all.

mod payloads;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::payloads::{Payload, Verdict, payloads};
use crate::support::client::Connection;
use crate::support::gateway::{self, Gateway};
use crate::support::http1::{Framing, Wire};
use crate::support::within;

/// The id of the request that follows each payload.
const SECOND: &str = "second";

const NO_BODY: Framing = Framing::Length(0);

/// An upstream that keeps every byte it gets, and answers a request with its id.
struct Recorder {
    address: String,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
    _server: JoinSet<()>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let got = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let mut server = JoinSet::new();
        let record = Arc::clone(&got);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Arc::clone(&record)));
            }
        });
        Self { address, got, _server: server }
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.got.lock().unwrap())
    }
}

async fn converse(stream: TcpStream, got: Arc<Mutex<Vec<Vec<u8>>>>) {
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire::new(stream);
    loop {
        let end = loop {
            if let Some(end) = request_end(&wire.buffer) {
                break end;
            }
            match wire.fill().await {
                Ok(read) if read > 0 => {}
                _ => {
                    if !wire.buffer.is_empty() {
                        got.lock().unwrap().push(wire.buffer.to_vec());
                    }
                    return;
                }
            }
        };
        let request = wire.buffer.split_to(end).to_vec();
        let answer = if request.starts_with(b"GET /v1/models ") {
            r#"{"object":"list","data":[]}"#.to_owned()
        } else {
            let id = field(&request, "x-request-id").unwrap_or_default();
            got.lock().unwrap().push(request);
            format!(r#"{{"choices":[{{"message":{{"content":"{id}"}}}}]}}"#)
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        if wire.send(format!("{head}{}\r\n\r\n{answer}", answer.len()).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Where the first request ends: behind its length, its last chunk, or its head.
fn request_end(bytes: &[u8]) -> Option<usize> {
    let find = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle);
    let head = find(b"\r\n\r\n")? + 4;
    if field(&bytes[..head], "transfer-encoding").is_some() {
        return Some(find(b"\r\n0\r\n\r\n")? + 7);
    }
    let length = field(&bytes[..head], "content-length").map_or(0, |text| text.parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// The value of a field of a head.
fn field(request: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    let fields = text.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let mut named = fields.filter_map(|line| line.split_once(": "));
    let found = named.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_owned())
}

/// A request as it must arrive: this line, these fields in whatever order, this body, and nothing
/// else.
fn assert_canonical(request: &[u8], first: &str, fields: &[String], body: &str, what: &str) {
    let text = String::from_utf8(request.to_vec()).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {text:?}"));
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some(first), "{what}: {text:?}");
    let normal = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{what}: {text:?}"));
        format!("{}: {value}", name.to_ascii_lowercase())
    };
    let mut got: Vec<String> = lines.map(normal).collect();
    let mut expected = fields.to_vec();
    got.sort();
    expected.sort();
    assert_eq!(got, expected, "{what}: {text:?}");
    assert_eq!(rest, body, "{what}: {text:?}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{what}: {text:?}");
}

/// What came back: a status and an id, or nothing before the end of the connection.
async fn answer(connection: &mut Connection, has_body: bool) -> Option<(u16, String, String)> {
    loop {
        let head = within("an answer or the end", connection.wire.head()).await.ok()??;
        let status: u16 = head.word(1).parse().unwrap();
        if status == 100 {
            continue;
        }
        let framing = head.framing().filter(|_| has_body);
        let mut framing = framing.unwrap_or(if has_body { Framing::UntilClose } else { NO_BODY });
        let mut body = Vec::new();
        while let Ok(Some(piece)) = within("a body", connection.wire.piece(&mut framing)).await {
            body.extend_from_slice(&piece);
        }
        let id = head.get("x-request-id").unwrap_or_default().to_owned();
        return Some((status, id, String::from_utf8(body).unwrap()));
    }
}

async fn run(gateway: &Gateway, recorder: &Recorder, payload: &Payload) {
    let what = format!("{} {:?}", payload.name, String::from_utf8_lossy(&payload.bytes));
    let what: String = what.chars().take(400).collect();
    let host = format!("host: {}", recorder.address);
    recorder.take();
    let mut connection = gateway.client().connect().await;
    // Who refuses early may have closed before everything is sent.
    let _sent = within("sending", connection.wire.send(&payload.bytes)).await;
    let answered = answer(&mut connection, !payload.bytes.starts_with(b"HEAD ")).await;
    let got = recorder.take();
    let shown: Vec<_> = got.iter().map(|request| String::from_utf8_lossy(request)).collect();
    match &payload.verdict {
        Verdict::Refused(status) => {
            let (got_status, id, body) = answered.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(got_status, *status, "{what}: {body}");
            assert!(shown.is_empty(), "{what}: reached the upstream: {shown:?}");
            let has_body = !payload.bytes.starts_with(b"HEAD ");
            assert!(!has_body || body.starts_with(r#"{"error":{"#), "{what}: {body:?}");
            assert!(!id.is_empty(), "{what}: no id");
        }
        Verdict::Dropped => {
            assert!(answered.is_none(), "{what}: {answered:?}");
            assert!(shown.is_empty(), "{what}: reached the upstream: {shown:?}");
        }
        Verdict::Local(status) => {
            let (got_status, ..) = answered.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(got_status, *status, "{what}");
            assert!(shown.is_empty(), "{what}: reached the upstream: {shown:?}");
        }
        Verdict::Passed(canonical) => {
            let (status, id, body) = answered.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(status, 200, "{what}: {body}");
            assert_eq!(got.len(), 1, "{what}: {shown:?}");
            let mut fields = canonical.fields.clone();
            fields.extend([host.clone(), format!("x-request-id: {id}")]);
            assert_canonical(&got[0], &canonical.first, &fields, &canonical.body, &what);
            assert!(body.contains(&format!("\"{id}\"")), "{what}: {body}");
        }
    }
    // The next request of the connection is answered for itself, or the connection has ended.
    let second = payloads::chat(&format!("x-request-id: {SECOND}\r\n"));
    let _sent = within("sending", connection.wire.send(&second.bytes)).await;
    let followed = answer(&mut connection, true).await;
    let got = recorder.take();
    let shown: Vec<_> = got.iter().map(|request| String::from_utf8_lossy(request)).collect();
    let Some((status, id, body)) = followed else {
        assert!(shown.is_empty(), "{what}, then: {shown:?}");
        return;
    };
    assert_eq!((status, id.as_str()), (200, SECOND), "{what}, then: {body}");
    assert!(body.contains(&format!("\"{SECOND}\"")), "{what}, then: {body}");
    let Verdict::Passed(canonical) = second.verdict else { unreachable!() };
    assert_eq!(got.len(), 1, "{what}, then: {shown:?}");
    let mut fields = canonical.fields;
    fields.extend([host, format!("x-request-id: {SECOND}")]);
    assert_canonical(&got[0], &canonical.first, &fields, &canonical.body, &what);
}

#[tokio::test]
async fn every_payload_is_refused_or_becomes_one_canonical_request() {
    let recorder = Recorder::start().await;
    let yaml = format!("{}\ndefault_provider: p\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).place("up", &recorder.address).start().await;
    let payloads = payloads();
    let mut failed = Vec::new();
    for payload in &payloads {
        let one = tokio::time::timeout(Duration::from_secs(20), run(&gateway, &recorder, payload));
        let one = std::panic::AssertUnwindSafe(one);
        match futures::FutureExt::catch_unwind(one).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => failed.push(format!("{}: takes too long", payload.name)),
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                failed.push(format!("{}: {said}", payload.name));
            }
        }
    }
    let refused = payloads.iter().filter(|it| !matches!(it.verdict, Verdict::Passed(_))).count();
    eprintln!("{} payloads: {refused} refused or answered here", payloads.len());
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(payloads.len() >= 150, "{} payloads", payloads.len());
    gateway.counts("forebay_active_requests", 0).await;
    assert_eq!(gateway.client().get("/health/live").await.ok().text(), r#"{"status":"ok"}"#);
}
