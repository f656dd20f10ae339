//! The payloads of the framing suite, each with its verdict.

/// Bytes as they are sent, and what must come of them.
pub struct Payload {
    pub name: String,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

pub enum Verdict {
    /// An answer with this status, and nothing reaches the upstream.
    Refused(u16),
    /// The connection ends without an answer, and nothing reaches the upstream.
    Dropped,
    /// Answered by the gateway itself.
    Local(u16),
    /// The upstream gets this, and only this.
    Passed(Canonical),
}

/// A request as the gateway writes it, but for `Host` and `X-Request-Id`.
pub struct Canonical {
    pub first: String,
    /// The other fields, their names in small letters.
    pub fields: Vec<String>,
    pub body: String,
}

pub const BODY: &str = r#"{"model":"m","messages":[]}"#;
/// `BODY` as one chunk, and the end of chunks.
const CHUNKS: &str = "1b\r\n{\"model\":\"m\",\"messages\":[]}\r\n0\r\n\r\n";
/// A request that must never be taken for one.
const HIDDEN: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: hidden\r\nContent-Length: 2\r\n\r\n{}";
const LINE: &str = "POST /v1/chat/completions HTTP/1.1\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

const HOST: &str = "Host: gateway.example\r\n";

fn refused(name: &str, bytes: impl Into<Vec<u8>>, status: u16) -> Payload {
    Payload { name: name.to_owned(), bytes: bytes.into(), verdict: Verdict::Refused(status) }
}

fn passed(name: &str, bytes: impl Into<Vec<u8>>, canonical: Canonical) -> Payload {
    Payload { name: name.to_owned(), bytes: bytes.into(), verdict: Verdict::Passed(canonical) }
}

/// A chat as the upstream gets it.
fn chat_canonical(more: &[&str]) -> Canonical {
    let mut fields = vec![
        "content-type: application/json".to_owned(),
        format!("content-length: {}", BODY.len()),
    ];
    fields.extend(more.iter().map(|field| (*field).to_owned()));
    let first = "POST /v1/chat/completions HTTP/1.1".to_owned();
    Canonical { first, fields, body: BODY.to_owned() }
}

/// A chat with these fields besides its own, which do not reach the upstream.
pub fn chat(fields: &str) -> Payload {
    let length = format!("Content-Length: {}\r\n", BODY.len());
    let bytes = [LINE, HOST, JSON, &length, fields, "\r\n", BODY].concat();
    passed(fields, bytes, chat_canonical(&[]))
}

/// A chat whose framing these fields say.
fn framed(fields: &str, body: &str) -> Vec<u8> {
    [LINE, HOST, JSON, fields, "\r\n", body].concat().into()
}

fn with_length(fields: &str) -> Vec<u8> {
    framed(&format!("Content-Length: {}\r\n{fields}", BODY.len()), BODY)
}

/// A `GET` for the list of files.
fn list(line: &str, fields: &str) -> Vec<u8> {
    [line, "\r\n", fields, "\r\n"].concat().into()
}

fn list_canonical(target: &str) -> Canonical {
    Canonical { first: format!("GET {target} HTTP/1.1"), fields: Vec::new(), body: String::new() }
}

pub fn payloads() -> Vec<Payload> {
    let mut all = lengths();
    all.extend(codings());
    all.extend(chunks());
    all.extend(lines());
    all.extend(versions());
    all.extend(hosts());
    all.extend(unknown_targets());
    all.extend(known_targets());
    all.extend(methods());
    all.extend(fields());
    all.extend(sizes());
    all.extend(bodies());
    all.extend(followers());
    all
}

fn lengths() -> Vec<Payload> {
    let n = BODY.len();
    let mut all = vec![
        passed("a length", with_length(""), chat_canonical(&[])),
        refused(
            "length, then chunks",
            framed(&format!("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n"), CHUNKS),
            400,
        ),
        refused(
            "chunks, then length",
            framed(&format!("Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n"), CHUNKS),
            400,
        ),
        refused(
            "chunks and a length with a request behind it",
            framed(
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
            400,
        ),
        refused("two equal lengths", with_length(&format!("Content-Length: {n}\r\n")), 400),
        refused("two different lengths", with_length("Content-Length: 0\r\n"), 400),
        refused(
            "a length beyond all limits",
            framed("Content-Length: 10995116277760\r\n", ""),
            413,
        ),
        refused("2^63", framed("Content-Length: 9223372036854775808\r\n", ""), 413),
        refused("no length and a body", framed("", BODY), 400),
        refused("a length of nothing", framed("Content-Length: 0\r\n", ""), 400),
    ];
    for value in [
        format!("{n}, {n}"),
        format!("{n},"),
        format!(",{n}"),
        format!("0{n}"),
        format!("+{n}"),
        format!("-{n}"),
        format!("0x{n:x}"),
        format!("{n}.0"),
        format!("{n} {n}"),
        format!("{n};x"),
        format!("\"{n}\""),
        format!("{n}e0"),
        format!("\u{b}{n}"),
        String::new(),
        "18446744073709551616".to_owned(),
        "99999999999999999999999999".to_owned(),
    ] {
        let bytes = framed(&format!("Content-Length: {value}\r\n"), BODY);
        all.push(refused(&format!("the length {value:?}"), bytes, 400));
    }
    all
}

fn codings() -> Vec<Payload> {
    let mut all = Vec::new();
    for value in ["chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked\t"] {
        let bytes = framed(&format!("Transfer-Encoding:{value}\r\n"), CHUNKS);
        all.push(passed(&format!("the coding {value:?}"), bytes, chat_canonical(&[])));
    }
    for (value, status) in [
        ("gzip, chunked", 501),
        ("x, chunked", 501),
        ("chunked, chunked", 400),
        (",chunked", 400),
        ("chunked,", 400),
        ("xchunked", 400),
        ("chunkedx", 400),
        ("chunked, identity", 400),
        ("chunked;q=1", 400),
        ("\"chunked\"", 400),
        ("chunked chunked", 400),
        ("identity", 400),
        ("gzip", 400),
        ("", 400),
        ("\u{b}chunked", 400),
        ("chunked\u{c}", 400),
        ("ch\u{fc}nked", 400),
    ] {
        let bytes = framed(&format!("Transfer-Encoding: {value}\r\n"), CHUNKS);
        all.push(refused(&format!("the coding {value:?}"), bytes, status));
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    all.push(refused("the coding twice", framed(twice, CHUNKS), 400));
    let two = "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n";
    all.push(refused("two codings in two lines", framed(two, CHUNKS), 400));
    let hidden = "Transfer_Encoding: chunked\r\n";
    all.push(passed("a coding with an underscore", with_length(hidden), chat_canonical(&[])));
    all
}

fn chunks() -> Vec<Payload> {
    let chunked = |body: &str| framed("Transfer-Encoding: chunked\r\n", body);
    let hex = format!("{:x}", BODY.len());
    let mut all = vec![
        passed("a chunk", chunked(CHUNKS), chat_canonical(&[])),
        passed("capital digits", chunked(&CHUNKS.replacen("1b", "1B", 1)), chat_canonical(&[])),
        passed("zeros before", chunked(&format!("000{CHUNKS}")), chat_canonical(&[])),
        passed(
            "two chunks",
            chunked(&format!("1\r\n{{\r\n1a\r\n{}\r\n0\r\n\r\n", &BODY[1..])),
            chat_canonical(&[]),
        ),
        passed(
            "an extension",
            chunked(&CHUNKS.replacen("1b", "1b;a=b;c=\"d\"", 1)),
            chat_canonical(&[]),
        ),
        passed(
            "trailers that imitate headers",
            chunked(&format!(
                "{hex}\r\n{BODY}\r\n0\r\nAuthorization: Bearer x\r\nContent-Length: 5\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
            )),
            chat_canonical(&[]),
        ),
    ];
    for (name, body) in [
        ("0x before the size", format!("0x{hex}\r\n{BODY}\r\n0\r\n\r\n")),
        ("+ before the size", format!("+{hex}\r\n{BODY}\r\n0\r\n\r\n")),
        ("- before the size", format!("-{hex}\r\n{BODY}\r\n0\r\n\r\n")),
        ("a size that is no number", format!("zz\r\n{BODY}\r\n0\r\n\r\n")),
        ("no size", format!("\r\n{BODY}\r\n0\r\n\r\n")),
        ("a size of 17 digits", format!("1000000000000001b\r\n{BODY}\r\n0\r\n\r\n")),
        ("a size of 16 digits", format!("ffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n")),
        ("LF behind the size", format!("{hex}\n{BODY}\r\n0\r\n\r\n")),
        ("CR behind the size", format!("{hex}\r{BODY}\r\n0\r\n\r\n")),
        ("LF behind the chunk", format!("{hex}\r\n{BODY}\n0\r\n\r\n")),
        ("nothing behind the chunk", format!("{hex}\r\n{BODY}0\r\n\r\n")),
        ("a chunk longer than it says", format!("1\r\n{BODY}\r\n0\r\n\r\n")),
        ("a space before the size", format!(" {hex}\r\n{BODY}\r\n0\r\n\r\n")),
        ("a size with an underscore", format!("1_b\r\n{BODY}\r\n0\r\n\r\n")),
    ] {
        all.push(refused(name, chunked(&body), 400));
    }
    all
}

/// What a head's lines are made of.
fn lines() -> Vec<Payload> {
    let n = BODY.len();
    let mut all = vec![
        passed(
            "empty lines before",
            ["\r\n", &text(&with_length(""))].concat(),
            chat_canonical(&[]),
        ),
        refused("an LF before", ["\n", &text(&with_length(""))].concat(), 400),
        refused("bare LFs", text(&with_length("")).replace("\r\n", "\n"), 400),
        refused("one bare LF", text(&with_length("")).replacen("json\r\n", "json\n", 1), 400),
        refused(
            "a bare LF ends the head",
            text(&with_length("")).replacen("\r\n\r\n", "\r\n\n", 1),
            400,
        ),
        refused(
            "a bare LF hides a length",
            with_length(&format!("X: y\nContent-Length: {n}\r\n")),
            400,
        ),
        refused("a bare CR", with_length("X: y\rz\r\n"), 400),
        refused("a bare CR before a field", with_length("\rX: y\r\n"), 400),
        refused("a space before the request", [" ", &text(&with_length(""))].concat(), 400),
    ];
    for (name, line) in [
        ("NUL in a value", "X: a\0b\r\n"),
        ("NUL in a name", "X\0: a\r\n"),
        ("BEL in a value", "X: a\u{7}b\r\n"),
        ("DEL in a name", "X\u{7f}: a\r\n"),
        ("a folded value", "X: a\r\n b\r\n"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n"),
        ("a space before the colon", "X : a\r\n"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a space in a name", "Transfer Encoding: chunked\r\n"),
        ("no name", ": a\r\n"),
        ("no colon", "X\r\n"),
        ("only a space", " \r\n"),
        ("a name in brackets", "(X): a\r\n"),
        ("a name with an umlaut", "X-\u{fc}: a\r\n"),
    ] {
        all.push(refused(name, with_length(line), 400));
    }
    all.push(passed(
        "no space behind the colon",
        with_length("X-Own:a\r\n"),
        chat_canonical(&["x-own: a"]),
    ));
    all.push(passed("an empty value", with_length("X-Own:\r\n"), chat_canonical(&["x-own: "])));
    all
}

fn versions() -> Vec<Payload> {
    let with = |version: &str| text(&with_length("")).replacen("HTTP/1.1", version, 1);
    let mut all = Vec::new();
    for version in [
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/0.9",
        "HTTP/11",
        "HTTP/1.1x",
        "http/1.1",
        "HTTP/1.",
        "HTTP/1,1",
        "",
    ] {
        all.push(refused(&format!("the version {version:?}"), with(version), 400));
    }
    let old = [
        "POST /v1/chat/completions HTTP/1.0\r\n",
        HOST,
        JSON,
        "Transfer-Encoding: chunked\r\n\r\n",
        CHUNKS,
    ];
    all.push(refused("HTTP/1.0 with chunks", old.concat(), 400));
    all.push(passed("HTTP/1.0", with("HTTP/1.0"), chat_canonical(&[])));
    let without_host = with("HTTP/1.0").replacen(HOST, "", 1);
    all.push(passed("HTTP/1.0 without Host", without_host, chat_canonical(&[])));
    all.push(refused("a request of HTTP/0.9", "GET /v1/files\r\n\r\n padding padding", 400));
    let hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[7; 200]].concat();
    all.push(refused("TLS on a plain port", hello, 400));
    let proxied = ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", &text(&with_length(""))].concat();
    all.push(refused("a PROXY line", proxied, 400));
    all
}

fn hosts() -> Vec<Payload> {
    let with = |hosts: &str| text(&with_length("")).replacen(HOST, hosts, 1);
    let mut all = vec![
        refused("no Host", with(""), 400),
        refused("two Hosts", with("Host: a\r\nHost: a\r\n"), 400),
        refused("a long Host", with(&format!("Host: {}\r\n", "a".repeat(10_000))), 400),
    ];
    for host in [
        "",
        "a?",
        "a/x",
        "a#",
        "u@a",
        "a b",
        "a,b",
        "a:b",
        "[fe80::1%25eth0]",
        "[::1",
        "a\\b",
        "a%2fb",
        "http://a",
    ] {
        all.push(refused(&format!("the Host {host:?}"), with(&format!("Host: {host}\r\n")), 400));
    }
    for host in ["a", "a:1", "[::1]:8080", "LOCALHOST"] {
        let bytes = with(&format!("Host: {host}\r\n"));
        all.push(passed(&format!("the Host {host:?}"), bytes, chat_canonical(&[])));
    }
    all
}

fn get(target: &str) -> Vec<u8> {
    list(&format!("GET {target} HTTP/1.1"), HOST)
}

/// Targets that are nothing's, or a second spelling of something.
fn unknown_targets() -> Vec<Payload> {
    let mut all = Vec::new();
    for target in [
        "/",
        "/admin",
        "/v1/../admin",
        "/v1/files/../../admin",
        "/v1/%2e%2e/admin",
        "/v1/files/%2E%2e/x",
        "/v1/files/.%2e/x",
        "/v1/files/%252e%252e/x",
        "/v1/files/..;/x",
        "/v1/files;/x",
        "/v1/files/a;b=c",
        "/v1/files/a%3bb",
        "//v1/files",
        "/v1//files",
        "/v1/files//a",
        "/v1/files/",
        "/v1/./files",
        "/v1/files/a%2fb",
        "/v1/files/a%2Fb",
        "/v1/files/a%5cb",
        "/v1/files/a\\..\\b",
        "/v1\\files",
        "/v1/files/a%00",
        "/v1/files/a%0d%0aX:%20y",
        "/v1/files/%66",
        "/%761/files",
        "/v1/files/a%zz",
        "/v1/files/a%2",
        "/v1/files/a%20b",
        "/v1/files/a b",
        "/v1/files/a\tb",
        "/v1/files/%c0%ae%c0%ae/x",
        "/V1/FILES",
        "/v1/filesystem",
        "/pause",
        "/v1/load_lora_adapter",
        "/invocations",
        "/metrics",
        "/docs",
        "/v1/files/<x>",
    ] {
        let status = if target.contains('<') { 400 } else { 404 };
        all.push(refused(&format!("the target {target:?}"), get(target), status));
    }
    all.push(refused("a fragment", get("/v1/files#b"), 400));
    all.push(refused(
        "a fragment behind an empty line",
        ["\r\n", &text(&get("/v1/files#b"))].concat(),
        400,
    ));
    all.push(refused(
        "a target that is no UTF-8",
        b"GET /v1/files/\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ));
    all
}

fn known_targets() -> Vec<Payload> {
    let mut all = Vec::new();
    for (target, sent) in [
        ("/v1/files", "/v1/files"),
        ("/v1/files/file-1", "/v1/files/file-1"),
        ("/v1/files/file-1?a=b&c", "/v1/files/file-1?a=b&c"),
        ("/v1/files?after=..%2f..%2fx", "/v1/files?after=..%2f..%2fx"),
        ("/v1/files?next=/v1/../admin", "/v1/files?next=/v1/../admin"),
        ("http://gateway.example/v1/files", "/v1/files"),
        ("http://gateway.example/v1/files?a=b", "/v1/files?a=b"),
    ] {
        all.push(passed(&format!("the target {target:?}"), get(target), list_canonical(sent)));
    }
    for target in [
        "http://other.example/v1/files",
        "http://u@gateway.example/v1/files",
        "http:/v1/files",
        "http:\\\\gateway.example/v1/files",
        "http:///v1/files",
    ] {
        all.push(refused(&format!("the target {target:?}"), get(target), 400));
    }
    let local = |name: &str, target: &str, status| Payload {
        verdict: Verdict::Local(status),
        ..refused(name, get(target), 0)
    };
    all.push(local("health", "/health/live", 200));
    all.push(local("a model whose name is a path", "/v1/models/../../admin", 404));
    all.push(local("models", "/v1/models", 200));
    all
}

fn methods() -> Vec<Payload> {
    let ask = |method: &str, target: &str| list(&format!("{method} {target} HTTP/1.1"), HOST);
    let mut all = Vec::new();
    for method in ["TRACE", "FOO", "OPTIONS", "HEAD", "PRI", "get", "PROPFIND", "G-T"] {
        all.push(refused(method, ask(method, "/v1/files"), 405));
    }
    for (method, target, status) in [
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("POST", "/health/live", 405),
        ("DELETE", "/v1/models/m", 405),
        ("POST", "/v1/realtime", 405),
        ("OPTIONS", "*", 405),
        ("GET", "*", 405),
        ("TRACE", "/nowhere", 404),
        ("POST", "/metrics", 404),
        ("CONNECT", "example.com:443", 400),
    ] {
        all.push(refused(&format!("{method} {target}"), ask(method, target), status));
    }
    all.push(refused("CONNECT", list("CONNECT a:443 HTTP/1.1", "Host: a:443\r\n"), 405));
    all.push(refused("a method with a colon", ask("G:T", "/v1/files"), 400));
    all.push(refused("HTTP/2 without its settings", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400));
    all
}

fn fields() -> Vec<Payload> {
    let mut all = Vec::new();
    for line in [
        "X_Forwarded_For: 1.1.1.1",
        "X-Forwarded-For: 1.1.1.1",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Prefix: /admin",
        "Forwarded: for=1.1.1.1",
        "X-Real-IP: 1.1.1.1",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-HTTP-Method-Override: DELETE",
        "X-Forebay-Provider: other",
        "X-Forebay-Own: x",
        "X-Envoy-Original-Path: /admin",
        "Remote-User: root",
        "Cookie: a=b",
        "Via: 1.1 x",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "TE: trailers",
        "Upgrade: foo",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: X-Own\r\nX-Own: a",
        "Connection: keep-alive",
    ] {
        all.push(chat(&format!("{line}\r\n")));
    }
    all.push(refused("another expectation", with_length("Expect: y\r\n"), 417));
    all.push(refused(
        "two expectations",
        with_length("Expect: 100-continue\r\nExpect: y\r\n"),
        417,
    ));
    all.push(chat("Expect: 100-continue\r\n"));
    all.push(refused("two content types", with_length("Content-Type: text/plain\r\n"), 400));
    for (kind, status) in
        [("text/plain; charset=utf-16", 415), ("application/json;charset=utf-32", 415)]
    {
        let bytes = text(&with_length("")).replacen("application/json", kind, 1);
        all.push(refused(kind, bytes, status));
    }
    for coding in ["gzip", "br", "identity\r\nContent-Encoding: gzip", "gzip, gzip"] {
        all.push(refused(coding, with_length(&format!("Content-Encoding: {coding}\r\n")), 415));
    }
    for named in [
        "Host",
        "Content-Length",
        "transfer-encoding",
        "X-Forwarded-For",
        "X-Own, hOST",
        ":path",
        "a b",
        "\"X\"",
    ] {
        let bytes = with_length(&format!("Connection: {named}\r\n"));
        all.push(refused(&format!("Connection: {named}"), bytes, 400));
    }
    all
}

fn sizes() -> Vec<Payload> {
    let many = |count: usize| {
        let lines: Vec<String> = (0..count).map(|n| format!("X-Own-{n}: a\r\n")).collect();
        lines.concat()
    };
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("x-own-{n}")).collect();
        format!("Connection: {}\r\n", names.join(", "))
    };
    let long = |length: usize| format!("X-Own: {}\r\n", "a".repeat(length));
    let own: Vec<String> = (0..97).map(|n| format!("x-own-{n}: a")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    vec![
        passed("100 fields", with_length(&many(97)), chat_canonical(&own)),
        refused("101 fields", with_length(&many(98)), 431),
        refused("250 fields", with_length(&many(247)), 431),
        refused("300 fields", with_length(&many(297)), 400),
        passed(
            "a field of 60,000 letters",
            with_length(&long(60_000)),
            chat_canonical(&[&format!("x-own: {}", "a".repeat(60_000))]),
        ),
        refused("a field of 65,600 letters", with_length(&long(65_600)), 431),
        refused("many long fields", with_length(&long(7_000).repeat(10)), 431),
        refused("a field of 100,000 letters", with_length(&long(100_000)), 431),
        Payload {
            verdict: Verdict::Dropped,
            ..refused("a megabyte", with_length(&long(900_000)), 0)
        },
        refused(
            "a target of 70,000 letters",
            list(&format!("GET /v1/files/{} HTTP/1.1", "a".repeat(70_000)), HOST),
            400,
        ),
        refused(
            "a target of 65,500 letters",
            list(&format!("GET /v1/files/{} HTTP/1.1", "a".repeat(65_500)), HOST),
            431,
        ),
        refused("a connection that names 100 headers", with_length(&names(100)), 400),
        refused("a connection that names 10 headers", with_length(&names(10)), 400),
        passed("a connection that names 9 headers", with_length(&names(9)), chat_canonical(&[])),
    ]
}

fn bodies() -> Vec<Payload> {
    let post = |body: &str| framed(&format!("Content-Length: {}\r\n", body.len()), body);
    vec![
        refused("no JSON", post("hello"), 400),
        refused("two documents", post("{\"model\":\"m\"}{\"model\":\"n\"}"), 400),
        refused("a byte order mark", post("\u{feff}{\"model\":\"m\"}"), 400),
        refused("two models", post("{\"model\":\"m\",\"model\":\"n\"}"), 400),
        refused("no model", post("{}"), 400),
        refused("an unknown model", post("{\"model\":\"n\"}"), 404),
        refused("a body that looks like a request", post(HIDDEN), 400),
    ]
}

/// Requests with others behind them.
fn followers() -> Vec<Payload> {
    let mut all = Vec::new();
    for (name, head) in [
        ("a request behind a request", with_length("")),
        ("a request behind chunks", framed("Transfer-Encoding: chunked\r\n", CHUNKS)),
        (
            "a request behind an offer to upgrade",
            with_length("Upgrade: foo\r\nConnection: Upgrade\r\n"),
        ),
    ] {
        all.push(passed(name, [head, HIDDEN.into()].concat(), chat_canonical(&[])));
    }
    let get = list("GET /v1/files HTTP/1.1", HOST);
    all.push(passed(
        "a request behind a question",
        [get, HIDDEN.into()].concat(),
        list_canonical("/v1/files"),
    ));
    let health = list("GET /health/live HTTP/1.1", HOST);
    let hidden = [health, HIDDEN.into()].concat();
    all.push(Payload {
        verdict: Verdict::Local(200),
        ..refused("a request behind health", hidden, 0)
    });
    let refusal = framed("Content-Length: 5\r\n", &format!("hello{HIDDEN}"));
    all.push(refused("a request behind a refused one", refusal, 400));
    let ambiguous = framed("Content-Length: 5, 5\r\n", &format!("hello{HIDDEN}"));
    all.push(refused("a request behind an ambiguous one", ambiguous, 400));
    let rubbish = [with_length(""), b"\0\0\0\0rubbish".to_vec()].concat();
    all.push(passed("rubbish behind a request", rubbish, chat_canonical(&[])));
    all
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
