//! How many tokens a prompt has, without a tokenizer: good enough to reserve, and quick.

use memchr::{memchr, memmem};

use crate::protocol::canonical::estimated_tokens;

/// What an image or a document is taken for, however long it is.
const ATTACHMENT: u64 = 1_500;
/// What an attachment begins with: a `data:` URL, or a member of that name.
const SIGN: &[u8] = b"\"data";
/// How far into a `data:` URL its encoding may be said.
const HEAD: usize = 200;
/// How long a text of base64 has to be to be an attachment.
const LONG: usize = 1_024;

/// The tokens of a JSON request body: a token for four bytes of ASCII, one for each other
/// character, and 1,500 for an attachment (a `data:` URL, or base64 under `"data"`). At least 1.
pub fn estimate_prompt(body: &[u8]) -> u64 {
    let mut text = Text::of(body);
    let mut attachments = 0;
    let (mut rest, finder) = (body, memmem::Finder::new(SIGN));
    // Each step goes on behind what it has looked at, so the whole is linear.
    while let Some(behind) = finder.find(rest).and_then(|at| rest.get(at + SIGN.len()..)) {
        rest = behind;
        if let Some((value, after)) = attachment(behind) {
            text.leave_out(Text::of(value));
            attachments += 1;
            rest = after;
        }
    }
    text.tokens().saturating_add(ATTACHMENT * attachments).max(1)
}

/// An attachment whose sign stands before this, and what comes after it.
fn attachment(behind: &[u8]) -> Option<(&[u8], &[u8])> {
    let (value, is_one) = match behind.split_first()? {
        (b':', url) => (url, is_url(url)),
        (b'"', member) => {
            let value = member.trim_ascii_start().strip_prefix(b":")?;
            let value = value.trim_ascii_start().strip_prefix(b"\"")?;
            (value, is_base64(value))
        }
        _ => return None,
    };
    if !is_one {
        return None;
    }
    let (value, after) = value.split_at_checked(memchr(b'"', value)?)?;
    // Prose that only begins like an attachment has spaces, or letters of other scripts.
    (value.is_ascii() && memchr(b' ', value).is_none()).then_some((value, after))
}

/// Whether this is a `data:` URL of base64.
fn is_url(url: &[u8]) -> bool {
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

/// Letters of a text, by what they count.
#[derive(Clone, Copy)]
struct Text {
    ascii: u64,
    others: u64,
}

// === impl Text ===

impl Text {
    fn of(text: &[u8]) -> Self {
        let length = text.len() as u64;
        if text.is_ascii() {
            return Self { ascii: length, others: 0 };
        }
        let (mut high, mut first) = (0, 0);
        // So short that each sum stays in a byte: a vector's bytes are then summed side by side.
        for chunk in text.chunks(192) {
            let sums = chunk.iter().fold((0_u8, 0_u8), |(high, first), byte| {
                (high + u8::from(*byte >= 0x80), first + u8::from(*byte >= 0xC0))
            });
            high += u64::from(sums.0);
            first += u64::from(sums.1);
        }
        Self { ascii: length - high, others: first }
    }

    fn leave_out(&mut self, part: Self) {
        self.ascii = self.ascii.saturating_sub(part.ascii);
        self.others = self.others.saturating_sub(part.others);
    }

    fn tokens(self) -> u64 {
        estimated_tokens(self.ascii, self.others)
    }
}
