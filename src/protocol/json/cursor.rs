//! A strict walk over JSON text: validates what it passes and yields spans, builds nothing.
//!
//! Stricter than RFC 8259 where readers are known to disagree: a lone surrogate escape and a
//! number beyond the range of a double are refused (Python reads both, serde reads neither).

use super::runs;
use std::ops::Range;

/// Nesting allowed, the outermost value counted.
pub const MAX_DEPTH: u32 = 128;
/// Characters one number may have.  Python refuses integers beyond 4,300 digits.
pub const MAX_NUMBER: usize = 1_024;

/// Why a text is not JSON that we pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// At byte `at` something else than `expected` stands, or nothing.
    Syntax {
        at: usize,
        expected: &'static str,
    },
    TooDeep,
    NumberTooLong,
}

/// A reader's place in a text.
///
/// [`object`](Self::object) and [`array`](Self::array) call back for each child, which must
/// consume exactly its value: by [`skip`](Self::skip) or by walking into it.
pub struct Cursor<'t> {
    text: &'t str,
    at: usize,
    depth: u32,
}

impl<'t> Cursor<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The first byte of the next value; 0 at the end of the text.
    pub fn peek(&mut self) -> u8 {
        self.space();
        self.byte()
    }

    /// Where the reader stands, in bytes from the beginning.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The text of a span.
    pub fn slice(&self, span: &Range<usize>) -> &'t str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Walks an object; `member` gets the quoted key's span.  Returns where the closing brace is.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Range<usize>) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        self.enter(b'{', "an object")?;
        if self.peek() != b'}' {
            loop {
                let key = self.key()?;
                member(self, key)?;
                if !self.comma() {
                    break;
                }
            }
        }
        self.leave(b'}', "a comma or a closing brace")
    }

    /// Walks an array.  Returns where the closing bracket is.
    pub fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        self.enter(b'[', "an array")?;
        if self.peek() != b']' {
            loop {
                element(self)?;
                if !self.comma() {
                    break;
                }
            }
        }
        self.leave(b']', "a comma or a closing bracket")
    }

    /// Passes one value of any kind and returns its span.  Never recurses.
    pub fn skip(&mut self) -> Result<Range<usize>, Fault> {
        self.space();
        let start = self.at;
        let mut nest = Nest::below(self.depth);
        'value: loop {
            match self.byte() {
                b'{' => {
                    nest.open(true)?;
                    self.at += 1;
                    if self.peek() != b'}' {
                        self.key()?;
                        self.space();
                        continue;
                    }
                }
                b'[' => {
                    nest.open(false)?;
                    self.at += 1;
                    if self.peek() != b']' {
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            while let Some(in_object) = nest.innermost() {
                match (self.peek(), in_object) {
                    (b'}', true) | (b']', false) => nest.close(),
                    (b',', true) => {
                        self.at += 1;
                        self.key()?;
                        self.space();
                        continue 'value;
                    }
                    (b',', false) => {
                        self.at += 1;
                        self.space();
                        continue 'value;
                    }
                    (_, true) => return Err(self.fault("a comma or a closing brace")),
                    (_, false) => return Err(self.fault("a comma or a closing bracket")),
                }
                self.at += 1;
            }
            return Ok(start..self.at);
        }
    }

    /// Passes one value of any kind.
    pub fn pass(&mut self) -> Result<(), Fault> {
        self.skip().map(|_| ())
    }

    /// Makes sure that nothing but white space follows.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.fault("the end of the text")) }
    }

    fn enter(&mut self, opening: u8, expected: &'static str) -> Result<(), Fault> {
        if self.peek() != opening {
            return Err(self.fault(expected));
        }
        if self.depth >= MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self, closing: u8, expected: &'static str) -> Result<usize, Fault> {
        if self.peek() != closing {
            return Err(self.fault(expected));
        }
        self.depth -= 1;
        self.at += 1;
        Ok(self.at - 1)
    }

    /// Passes a comma if one is next.
    fn comma(&mut self) -> bool {
        let comma = self.peek() == b',';
        self.at += usize::from(comma);
        comma
    }

    /// Passes a key and its colon.
    fn key(&mut self) -> Result<Range<usize>, Fault> {
        if self.peek() != b'"' {
            return Err(self.fault("a string as the name of a member"));
        }
        let key = self.string()?;
        if self.peek() != b':' {
            return Err(self.fault("a colon"));
        }
        self.at += 1;
        Ok(key)
    }

    fn scalar(&mut self) -> Result<(), Fault> {
        match self.byte() {
            b'"' => self.string().map(|_| ()),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.fault("a value")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.fault(word));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += usize::from(self.byte() == b'-');
        if self.byte() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        let scientific = matches!(self.byte(), b'e' | b'E');
        if scientific {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), b'+' | b'-'));
            self.digits()?;
        }
        let length = self.at - start;
        if length > MAX_NUMBER {
            return Err(Fault::NumberTooLong);
        }
        // Only these can lie beyond 1.8e308.
        if scientific || length > 300 {
            let finite = self.slice(&(start..self.at)).parse().is_ok_and(f64::is_finite);
            if !finite {
                return Err(Fault::Syntax { at: start, expected: "a number within range" });
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.fault("a digit"));
        }
        self.at += count;
        Ok(())
    }

    /// Passes a string, the reader standing on its opening quote.
    fn string(&mut self) -> Result<Range<usize>, Fault> {
        let start = self.at;
        self.at += 1;
        loop {
            // Step by step at first: most strings end here, and what is odd has to be passed before
            // blocks are tried again.
            let enough = self.at + runs::SHORT;
            while self.at < enough {
                let rest = self.rest();
                self.at += runs::plain_run(rest.get(..enough - self.at).unwrap_or(rest));
                match self.byte() {
                    b'"' => {
                        self.at += 1;
                        return Ok(start..self.at);
                    }
                    // They often come in rows; in those of `\u524d` this halves the time and more.
                    b'\\' => {
                        while self.byte() == b'\\' {
                            self.escape()?;
                        }
                    }
                    _ if self.at == enough => {}
                    _ => return Err(self.fault("a closing quote or an escaped character")),
                }
            }
            self.at += runs::sound_run(self.rest());
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        match self.byte() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => match self.code_unit()? {
                0xd800..=0xdbff => self.low_surrogate()?,
                0xdc00..=0xdfff => return Err(self.fault("a pair of surrogates before this")),
                _ => {}
            },
            _ => return Err(self.fault("an escape that JSON knows")),
        }
        Ok(())
    }

    fn low_surrogate(&mut self) -> Result<(), Fault> {
        let fault = self.fault("the second half of a surrogate pair");
        if self.byte() != b'\\' {
            return Err(fault);
        }
        self.at += 1;
        match self.code_unit()? {
            0xdc00..=0xdfff => Ok(()),
            _ => Err(fault),
        }
    }

    /// Passes `uXXXX`.
    fn code_unit(&mut self) -> Result<u16, Fault> {
        let fault = self.fault("u and four hexadecimal digits");
        let Some([b'u', digits @ ..]) = self.rest().get(..5) else { return Err(fault) };
        let mut unit = 0;
        for &digit in digits {
            let Some(value) = char::from(digit).to_digit(16) else { return Err(fault) };
            unit = unit << 4 | value;
        }
        self.at += 5;
        u16::try_from(unit).map_err(|_| fault)
    }

    fn space(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The byte under the reader; 0, which no JSON text holds bare, at the end.
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn rest(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn fault(&self, expected: &'static str) -> Fault {
        Fault::Syntax { at: self.at, expected }
    }
}

/// The open brackets inside one value, a bit for each: 1 is an object.
struct Nest {
    kinds: u128,
    depth: u32,
    allowed: u32,
}

impl Nest {
    fn below(depth: u32) -> Self {
        Self { kinds: 0, depth: 0, allowed: MAX_DEPTH - depth }
    }

    fn open(&mut self, object: bool) -> Result<(), Fault> {
        if self.depth >= self.allowed {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        self.kinds = self.kinds << 1 | u128::from(object);
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.kinds >>= 1;
    }

    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.kinds & 1 == 1)
    }
}
