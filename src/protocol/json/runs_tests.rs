use super::*;
use crate::protocol::json::cursor::{Cursor, Fault};
use proptest::prelude::*;

/// What may stand in a string, and what may not.
const PIECES: [&str; 34] = [
    "a",
    "n",
    "u",
    "é",
    "前",
    "😀",
    "\u{7f}",
    "/",
    r"\n",
    r"\t",
    r"\r",
    r#"\""#,
    r"\\",
    r"\/",
    r"\b",
    r"\f",
    r"\u00e9",
    r"\u00E9",
    r"\ud83d\ude00",
    "The forebay holds water for the turbines.",
    "\"",
    "\0",
    "\n",
    "\u{1f}",
    r"\x",
    r"\N",
    r"\u00g0",
    r"\u12",
    r"\ud83d",
    r"\ude00",
    r"\ud83d\n",
    r"\ud83d\u0041",
    "\\",
    "\\\0",
];

/// Where a string that begins the text ends, or where it goes wrong; byte by byte.
fn simply(text: &[u8]) -> Result<usize, usize> {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    let unit = |at: usize| {
        let digits = text.get(at + 1..at + 5).filter(|_| byte(at) == b'u').ok_or(at)?;
        let hexadecimal = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| hexadecimal).ok_or(at)?;
        u16::from_str_radix(digits, 16).map_err(|_| at)
    };
    let mut at = 1;
    loop {
        match (byte(at), byte(at + 1)) {
            (b'"', _) => return Ok(at + 1),
            (0..0x20, _) => return Err(at),
            (b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
            (b'\\', b'u') => {
                let first = unit(at + 1)?;
                at += 6;
                match first {
                    0xd800..=0xdbff if byte(at) != b'\\' => return Err(at),
                    0xd800..=0xdbff if !matches!(unit(at + 1)?, 0xdc00..=0xdfff) => return Err(at),
                    0xd800..=0xdbff => at += 6,
                    0xdc00..=0xdfff => return Err(at),
                    _ => {}
                }
            }
            (b'\\', _) => return Err(at + 1),
            _ => at += 1,
        }
    }
}

fn reads_alike(text: &str) {
    let read = Cursor::new(text).skip().map(|span| span.end).map_err(|fault| match fault {
        Fault::Syntax { at, .. } => at,
        other => panic!("{other:?}"),
    });
    assert_eq!(read, simply(text.as_bytes()), "{text}");
}

#[test]
fn a_string_of_any_length_ends_at_its_quote() {
    for length in 0..300 {
        let inner = "x".repeat(length);
        reads_alike(&format!("\"{inner}\""));
        reads_alike(&format!("\"{inner}\",\"{inner}\""));
        reads_alike(&format!("\"{inner}"));
    }
}

#[test]
fn anything_is_read_alike_at_every_offset() {
    for piece in PIECES {
        for before in 0..200 {
            let (before, after) = ("x".repeat(before), "y".repeat(100));
            reads_alike(&format!("\"{before}{piece}{after}\""));
            reads_alike(&format!("\"{before}{piece}\""));
            // An escape before it brings the reader to its blocks.
            reads_alike(&format!("\"\\n{before}{piece}{after}\""));
            reads_alike(&format!("\"\\n{before}{piece}"));
        }
    }
}

#[test]
fn backslashes_in_any_number_are_paired_at_every_offset() {
    for count in 1..12 {
        for before in 0..140 {
            let (before, row) = ("x".repeat(before), "\\".repeat(count));
            for next in ["\"", "n", "u0041", "x", "\n", ""] {
                reads_alike(&format!("\"\\t{before}{row}{next}{}\"", "y".repeat(90)));
            }
        }
    }
}

#[test]
fn every_control_character_stops_a_run() {
    for stop in (0..0x20).chain(*b"\"\\") {
        for length in 0..200 {
            let mut text = vec![b'x'; length];
            text.push(stop);
            text.extend([b'y'; 80]);
            assert_eq!(plain_run(&text), length, "{stop:#x}");
        }
    }
    let plain: Vec<u8> = (0x20..=0xff).filter(|byte| !matches!(byte, b'"' | b'\\')).collect();
    assert_eq!(plain_run(&plain), plain.len());
}

#[test]
fn blocks_pass_the_common_escapes_and_stop_before_what_is_odd() {
    let text = r#"say \"hi\"\n\ta\\b\r\/"#.repeat(10);
    assert!(sound_run(text.as_bytes()) + BLOCK > text.len());
    for odd in [r"\u0041", "\"", "\0", r"\x"] {
        for before in 0..text.len() {
            let Some(before) = text.get(..before).filter(|text| escapes_are_whole(text)) else {
                continue;
            };
            let whole = format!("{before}{odd}{}", "y".repeat(BLOCK));
            assert_eq!(sound_run(whole.as_bytes()), before.len(), "{whole}");
        }
    }
}

#[test]
fn a_block_never_ends_within_an_escape() {
    for before in 0..3 * BLOCK {
        for count in 1..5 {
            let text = format!("{}{}", "x".repeat(before), "\\".repeat(count));
            let run = text.get(..sound_run(text.as_bytes())).unwrap_or_default();
            assert!(escapes_are_whole(run), "{run}");
        }
    }
}

fn escapes_are_whole(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0
}

proptest! {
    #[test]
    fn any_string_is_read_alike(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60),
        sound in prop::collection::vec(prop::sample::select(&PIECES[..20]), 0..60),
    ) {
        reads_alike(&format!("\"{}{}\"", sound.concat(), pieces.concat()));
        reads_alike(&format!("\"{}\"", sound.concat()));
    }
}
