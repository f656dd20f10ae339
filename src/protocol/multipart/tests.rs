use super::*;
use proptest::prelude::*;

const TYPE: &str = "multipart/form-data; boundary=xYz";

fn scan_parts<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Result<Found, MultipartError> {
    let mut scanner = Scanner::new(TYPE).unwrap();
    let mut found = Ok(Found::Undecided);
    for chunk in chunks {
        found = scanner.push(chunk);
    }
    found
}

/// The result, which must be the same under every cut.
fn scan(body: &[u8]) -> Result<Found, MultipartError> {
    let found = scan_parts([body]);
    for at in 0..body.len() {
        assert_eq!(scan_parts([&body[..at], &body[at..]]), found, "cut at {at}");
    }
    assert_eq!(scan_parts(body.chunks(1)), found);
    if let Ok(Found::Model { value, span }) = &found {
        let [start, end] = [span.start, span.end].map(|at| usize::try_from(at).unwrap());
        assert_eq!(&body[start..end], value.as_bytes());
    }
    found
}

fn part(head: &str, content: &str) -> String {
    format!("--xYz\r\n{head}\r\n\r\n{content}\r\n")
}

fn field(name: &str, content: &str) -> String {
    part(&format!("Content-Disposition: form-data; name=\"{name}\""), content)
}

fn file(content: &str) -> String {
    part(
        "Content-Disposition: form-data; name=\"model\"; filename=\"a.wav\"\r\nContent-Type: audio/wav",
        content,
    )
}

fn model(parts: &[String]) -> Result<Option<String>, MultipartError> {
    let body = parts.concat() + "--xYz--\r\n";
    scan(body.as_bytes()).map(|found| match found {
        Found::Model { value, .. } => Some(value),
        Found::Absent => None,
        Found::Undecided => panic!("undecided at the end of {body}"),
    })
}

#[test]
fn the_model_is_found_among_other_parts() {
    let parts =
        [field("language", "en"), file("RIFF\r\n--xY\r\n\r\r\n--"), field("model", "whisper-1")];
    assert_eq!(model(&parts), Ok(Some("whisper-1".into())));
    assert_eq!(model(&parts[..2]), Ok(None));
    assert_eq!(model(&[]), Ok(None));
}

#[test]
fn the_value_is_every_byte_up_to_the_boundary() {
    for value in ["", "\r\n", "a\r", "é\r\n--xY", "\r\n\r\n-", " a "] {
        assert_eq!(model(&[field("model", value)]), Ok(Some(value.into())), "{value:?}");
    }
}

#[test]
fn headers_may_be_written_in_several_ways() {
    for head in [
        "content-disposition:form-data;name=model",
        "CONTENT-DISPOSITION: Form-Data; Name=\"mod\\el\"; x=y",
        "X-A: b\r\nContent-Disposition: form-data; name=\"model\";\r\nContent-Type: text/plain",
        "Content-Disposition: form-data; x=\"a;b=\\\"c\"; name=\"model\"",
        "Content-Transfer-Encoding: 8BIT\r\nContent-Disposition: form-data; name=\"model\"",
    ] {
        let expected = (!head.contains("mod\\el")).then(|| "m".to_owned());
        assert_eq!(model(&[part(head, "m")]), Ok(expected), "{head}");
    }
    let with_file = "Content-Disposition: form-data; name=\"model\"; filename*=utf-8''a";
    assert_eq!(model(&[part(with_file, "m")]), Ok(None));
}

#[test]
fn what_servers_read_differently_is_refused() {
    for head in [
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data; name=\"a\"; name*=utf-8''model",
        "Content-Disposition: form-data; name=\"a\"; name=\"model\"",
        "Content-Disposition: form-data; name=\"model",
        "Content-Disposition: form-data; name=\"model\" x",
        "Content-Disposition: form-data; name=",
        "Content-Disposition: form-data",
        "Content-Disposition: attachment; name=\"model\"",
        "Content-Disposition : form-data; name=\"model\"",
        "Content-Disposition: form-data;\r\n name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\nX: y",
        "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Type: text/plain",
        "Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"model\"",
    ] {
        assert_eq!(model(&[part(head, "m")]), Err(MultipartError::Malformed), "{head}");
    }
    for body in [
        "preamble\r\n--xYz\r\n",
        "\r\n--xYz\r\n",
        "--xYz \r\n",
        "--xYz\n\n",
        "--xYzz\r\n",
        "--xYz\r\n\r\n",
    ] {
        assert_eq!(scan(body.as_bytes()), Err(MultipartError::Malformed), "{body:?}");
    }
}

#[test]
fn a_second_model_is_an_error_once_it_comes() {
    let twice = [field("model", "cheap"), file("x"), field("model", "dear")];
    assert_eq!(model(&twice), Err(MultipartError::DuplicateModel));
    let mut scanner = Scanner::new(TYPE).unwrap();
    let first = scanner.push((twice[..2].concat() + "--xYz").as_bytes());
    assert!(matches!(first, Ok(Found::Model { value, .. }) if value == "cheap"));
    assert_eq!(scanner.push(&twice[2].as_bytes()[5..]), Err(MultipartError::DuplicateModel));
    assert_eq!(scanner.push(b""), Err(MultipartError::DuplicateModel));
}

#[test]
fn a_body_broken_off_stays_undecided() {
    for body in ["", "--xY", "--xYz\r\nContent-Dis", "--xYz-"] {
        assert_eq!(scan(body.as_bytes()), Ok(Found::Undecided), "{body:?}");
    }
    let open = field("model", "m") + "--xY";
    assert_eq!(scan(open.as_bytes()), Ok(Found::Undecided));
}

#[test]
fn heads_and_values_are_bounded() {
    let longest = |name: &str, count: usize| format!("{name}: {}", "x".repeat(count));
    let disposition = "Content-Disposition: form-data; name=\"a\"";
    let head = |extra: usize| format!("{disposition}\r\n{}", longest("X", extra));
    let room = MAX_HEAD - head(0).len() - 4;
    assert_eq!(scan_parts([part(&head(room), "").as_bytes(), b"--xYz--"]), Ok(Found::Absent));
    assert_eq!(
        scan_parts([part(&head(room + 1), "").as_bytes()]),
        Err(MultipartError::HeadTooLong)
    );
    assert_eq!(
        scan_parts([field("model", &"m".repeat(MAX_VALUE)).as_bytes(), b"--xYz"]).map(drop),
        Ok(())
    );
    assert_eq!(
        scan_parts([field("model", &"m".repeat(MAX_VALUE + 1)).as_bytes()]),
        Err(MultipartError::ValueTooLong)
    );
    let wrong = [b"--xYz\r\nContent-Disposition: form-data; name=model\r\n\r\n\xff\r\n--xYz"];
    assert_eq!(scan_parts(wrong.map(|bytes| &bytes[..])), Err(MultipartError::NotUtf8));
}

#[test]
fn it_tells_when_it_is_inside_a_file() {
    let mut scanner = Scanner::new(TYPE).unwrap();
    let mut inside = |bytes: &str| {
        scanner.push(bytes.as_bytes()).unwrap();
        scanner.inside_file()
    };
    assert!(!inside("--xYz\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r"));
    assert!(inside("\n"));
    assert!(inside("data\r\n--xY"));
    assert!(!inside("z\r\nContent-Disposition: form-data; name=f\r\n\r\n"));
}

#[test]
fn the_boundary_is_read_from_the_content_type() {
    for good in [
        "multipart/form-data; boundary=xYz",
        "Multipart/Form-Data;charset=utf-8;Boundary=\"xYz\"",
        "multipart/form-data; boundary=xYz;",
    ] {
        assert_eq!(Scanner::new(good).unwrap().delimiter, b"\r\n--xYz", "{good}");
    }
    for (bad, error) in [
        ("application/json", MultipartError::NotMultipart),
        ("multipart/mixed; boundary=x", MultipartError::NotMultipart),
        ("multipart/form-data", MultipartError::NoBoundary),
        ("multipart/form-data; boundary=", MultipartError::NoBoundary),
        ("multipart/form-data; boundary=\"a\rb\"", MultipartError::NoBoundary),
        ("multipart/form-data; boundary=\"a \"", MultipartError::NoBoundary),
        ("multipart/form-data; boundary=a; boundary=b", MultipartError::NoBoundary),
    ] {
        assert_eq!(Scanner::new(bad).map(drop), Err(error), "{bad}");
    }
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    assert_eq!(Scanner::new(&long).map(drop), Err(MultipartError::NoBoundary));
}

proptest! {
    #[test]
    fn any_cut_finds_the_same(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "--xYz", "\r\n", "\r", "--", "Content-Disposition: form-data; name=", "\"model\"",
                "a", "; filename=x", "\r\n\r\n", "\r\n--xYz",
            ]),
            0..16,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let body = format!("--xYz\r\n{}", pieces.concat()).into_bytes();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        at.extend([0, body.len()]);
        at.sort_unstable();
        let chunks = at.windows(2).map(|pair| &body[pair[0]..pair[1]]);
        prop_assert_eq!(scan_parts(chunks), scan_parts([&body[..]]));
    }
}
