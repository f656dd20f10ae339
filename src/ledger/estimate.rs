//! How many tokens a prompt has, without a tokenizer: good enough to reserve, and quick.

use memchr::{memchr, memmem};

/// What an image or a document is taken for, however long it is.
const ATTACHMENT: u64 = 1_500;
const BYTES_PER_TOKEN: u64 = 4;
/// How far into a `data:` URL its encoding may be said.
const HEAD: usize = 200;
/// How long a text of base64 has to be to be an attachment.
const LONG: usize = 1_024;
const BLOCK: usize = 4_096;

/// The tokens of a JSON request body: a token for four bytes of ASCII, one for each other
/// character, and 1,500 for an attachment (a `data:` URL, or base64 under `"data"`). At least 1.
pub fn estimate_prompt(body: &[u8]) -> u64 {
    let mut text = Text::default();
    let mut attachments = 0;
    let (mut rest, finder) = (body, memmem::Finder::new(b"\"data"));
    // Each step goes on behind what it has looked at, so the whole is linear.
    while let Some(found) = finder.find(rest) {
        let (before, from) = rest.split_at(found);
        text.count(before);
        rest = match attachment(from) {
            Some(behind) => {
                attachments += 1;
                behind
            }
            None => {
                let (word, behind) = from.split_at(from.len().min(b"\"data".len()));
                text.count(word);
                behind
            }
        };
    }
    text.count(rest);
    text.tokens().saturating_add(ATTACHMENT * attachments).max(1)
}

/// What stands behind an attachment, when one begins here with `"data`.
fn attachment(from: &[u8]) -> Option<&[u8]> {
    let behind = from.get(b"\"data".len()..)?;
    let (value, sure) = match behind.first()? {
        b':' => (behind, head_of(behind)),
        b'"' => {
            let value = behind.get(1..)?.trim_ascii_start().strip_prefix(b":")?;
            (value.trim_ascii_start().strip_prefix(b"\"")?, false)
        }
        _ => return None,
    };
    let sure = sure || (behind.first() == Some(&b'"') && is_base64(value));
    let end = sure.then(|| memchr(b'"', value)).flatten()?;
    value.get(end..)
}

/// Whether a `data:` URL of base64 begins here.
fn head_of(url: &[u8]) -> bool {
    let head = url.get(..HEAD).unwrap_or(url);
    let head = memchr(b'"', head).and_then(|end| head.get(..end)).unwrap_or(head);
    memmem::find(head, b";base64,").is_some()
}

/// Whether a long text begins here that is base64 as far as one looks.
fn is_base64(value: &[u8]) -> bool {
    // A slash may have been escaped.
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_\\".contains(byte);
    value.get(..LONG).is_some_and(|head| head.iter().all(letter))
}

#[derive(Default)]
struct Text {
    ascii: u64,
    others: u64,
}

// === impl Text ===

impl Text {
    fn count(&mut self, text: &[u8]) {
        for block in text.chunks(BLOCK) {
            let length = block.len() as u64;
            if block.is_ascii() {
                self.ascii += length;
                continue;
            }
            // Small sums: they stay in a vector's bytes.
            let (mut high, mut first) = (0, 0);
            for chunk in block.chunks(128) {
                high += u64::from(chunk.iter().map(|byte| byte >> 7).sum::<u8>());
                first += u64::from(chunk.iter().map(|&byte| u8::from(byte >= 0xC0)).sum::<u8>());
            }
            self.ascii += length - high;
            self.others += first;
        }
    }

    fn tokens(&self) -> u64 {
        self.ascii.div_ceil(BYTES_PER_TOKEN) + self.others
    }
}
