//! Statements over many rows.

use std::fmt::Write;

use sha2::{Digest as _, Sha256};

/// Rows in one statement. Few enough that most statements are less than the 16 KiB of a TLS record:
/// the driver leaves Nagle's algorithm on, and what follows the first record waits for an
/// acknowledgement, 40 ms.
pub(super) const CHUNK: usize = 100;
/// … where a row is a whole record.
pub(super) const FEW: usize = 20;

/// The most that one amount may be: hundreds of them add up without overflow.
const MOST: i64 = 1 << 53;

/// `($1, $2), ($3, $4)` for two rows of two columns.
pub(crate) fn places(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    for place in 0..rows * columns {
        let before = match place % columns {
            0 if place == 0 => "(",
            0 => "), (",
            _ => ", ",
        };
        // Writing to a text cannot fail.
        _ = write!(text, "{before}${}", place + 1);
    }
    text.push(')');
    text
}

/// `$2, $3` for two values from the second place on.
pub(super) fn list(from: usize, count: usize) -> String {
    let places: Vec<String> = (from..from + count).map(|place| format!("${place}")).collect();
    places.join(", ")
}

/// An amount as it is stored.
pub(super) fn stored(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(MOST).min(MOST)
}

/// An amount as it was stored.
pub(super) fn read(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or(0)
}

/// The longest name, in bytes, and what is kept of one that is longer.
const LONGEST: usize = 400;
const BEGINNING: usize = 360;

/// A name that either database takes: PostgreSQL's texts have no zero bytes and its keys are
/// bounded. A batch that was refused for one name would be refused for ever. What is cut off is hashed,
/// so that two long names do not become one.
pub(super) fn name(text: &str) -> String {
    let mut name = text.replace('\0', "");
    if name.len() > LONGEST {
        let digest = hex::encode(Sha256::digest(&name));
        name.truncate(name.floor_char_boundary(BEGINNING));
        name.push('#');
        name.push_str(digest.get(..32).unwrap_or_default());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_through() {
        assert_eq!(places(2, 2), "($1, $2), ($3, $4)");
        assert_eq!(places(1, 1), "($1)");
        assert_eq!(list(2, 3), "$2, $3, $4");
    }

    #[test]
    fn amounts_and_names_are_bounded() {
        assert_eq!(stored(u64::MAX), MOST);
        assert_eq!(stored(7), 7);
        assert_eq!(name("a\0b"), "ab");
        assert_eq!(name(&"a".repeat(400)), "a".repeat(400));
        let long = |end: &str| name(&format!("{}{end}", "ä".repeat(300)));
        assert!(long("1").len() <= 400 && long("1").starts_with(&"ä".repeat(180)));
        assert_ne!(long("1"), long("2"), "windows of one counter differ in their end");
        assert_eq!(long("1"), long("1"));
    }
}
