//! JSON text, walked once without memory of its own: RFC 8259's grammar with a bound on nesting.
//!
//! A parser with a tree or a stack on the heap would pay for every message, and a recursive one with the thread's stack for
//! hostile ones. Here open brackets are the bits of one word.

use std::{borrow::Cow, ops::Range};

use crate::DecodeError;

/// Brackets that may be open at once inside one value. Real bodies have fewer than ten; apps parse them recursively.
pub const DEPTH_MAX: u32 = 32;
const _: () = assert!(DEPTH_MAX <= u32::BITS, "one bit per open bracket");

/// Checks that `body` is one JSON object and nothing else.
///
/// # Errors
/// When it is not.
pub fn check_object(body: &[u8]) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(body)?;
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Err(NOT_AN_OBJECT);
    }
    scanner.value()?;
    scanner.end()
}

/// A place in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::broken("not UTF-8"))?;
        Ok(Self { text, at: 0 })
    }

    pub(crate) fn of(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Calls `member` with each key and value of the object that is next.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(Cow<'a, str>, &'a str) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.space();
        if !self.take(b'{') {
            return Err(NOT_AN_OBJECT);
        }
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            let value = self.value()?;
            member(unescape(key).ok_or(BAD_ESCAPE)?, value)?;
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Calls `element` with each value of the array that is next. The text is already known to be good.
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&'a str) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.space();
        if !self.take(b'[') {
            return Err(DecodeError::broken("not an array"));
        }
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self.value()?)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Nothing but space is left.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(DecodeError::broken("text after the JSON object")) }
    }

    /// Steps over one value of any type and hands out its text.
    fn value(&mut self) -> Result<&'a str, DecodeError> {
        self.space();
        let start = self.at;
        let mut open = Brackets::default();
        loop {
            self.space();
            let more = match self.peek() {
                Some(b'{') => self.enter(&mut open, true)?,
                Some(b'[') => self.enter(&mut open, false)?,
                _ => {
                    self.scalar()?;
                    false
                }
            };
            if !more && !self.leave(&mut open)? {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// Steps over an opening bracket, and the first key of an object. Whether there is a value inside.
    fn enter(&mut self, open: &mut Brackets, object: bool) -> Result<bool, DecodeError> {
        self.at += 1;
        open.push(object)?;
        self.space();
        let empty = self.peek() == Some(if object { b'}' } else { b']' });
        if object && !empty {
            self.key()?;
        }
        Ok(!empty)
    }

    /// Behind a value: steps over closing brackets. Whether another value follows inside of one that is open.
    fn leave(&mut self, open: &mut Brackets) -> Result<bool, DecodeError> {
        while open.depth > 0 {
            self.space();
            let closing = if open.object() { b'}' } else { b']' };
            if self.take(closing) {
                open.pop();
                continue;
            }
            self.expect(b',')?;
            if open.object() {
                self.key()?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn key(&mut self) -> Result<&'a str, DecodeError> {
        self.space();
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        Ok(key)
    }

    fn scalar(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(_) => Err(DecodeError::broken("not JSON: a value is missing")),
            None => Err(CUT_OFF),
        }
    }

    /// Steps over a string and hands out what is between its quotes, escapes as they are.
    fn string(&mut self) -> Result<&'a str, DecodeError> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.at += plain_len(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(&self.text[start..self.at - 1]);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(DecodeError::broken("not JSON: a control character in a string")),
                None => return Err(CUT_OFF),
            }
        }
    }

    fn escape(&mut self) -> Result<(), DecodeError> {
        let bytes = &self.text.as_bytes()[self.at..];
        let len = match bytes.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if bytes.get(2..6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => 6,
            _ => return Err(BAD_ESCAPE),
        };
        self.at += len;
        Ok(())
    }

    fn number(&mut self) -> Result<(), DecodeError> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), DecodeError> {
        let len = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += len;
        if len == 0 { Err(DecodeError::broken("not JSON: a number without digits")) } else { Ok(()) }
    }

    fn literal(&mut self, word: &str) -> Result<(), DecodeError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(DecodeError::broken("not JSON: an unknown word"));
        }
        self.at += word.len();
        Ok(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), DecodeError> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(DecodeError::broken("not JSON: a quote, colon, comma or bracket is missing")),
            None => Err(CUT_OFF),
        }
    }
}

/// The open brackets around a place; the lowest bit is the innermost, set for an object.
#[derive(Default)]
struct Brackets {
    bits: u32,
    depth: u32,
}

impl Brackets {
    fn push(&mut self, object: bool) -> Result<(), DecodeError> {
        if self.depth == DEPTH_MAX {
            return Err(DecodeError::broken("JSON nested too deep"));
        }
        self.depth += 1;
        self.bits = self.bits << 1 | u32::from(object);
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.bits >>= 1;
    }

    fn object(&self) -> bool {
        self.bits & 1 == 1
    }
}

/// The text between the quotes of a string. None when an escape names half of a character.
pub(crate) fn unescape(inner: &str) -> Option<Cow<'_, str>> {
    if !inner.as_bytes().contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(&format!("\"{inner}\"")).ok().map(Cow::Owned)
}

/// How many bytes from the front may stand in a JSON string as they are: eight at a time.
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = word(bytes, at..at + 8) {
        let stops = equal(word, b'"') | equal(word, b'\\') | below_space(word);
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..b' ')).count()
}

fn word(bytes: &[u8], range: Range<usize>) -> Option<u64> {
    bytes.get(range)?.try_into().ok().map(u64::from_le_bytes)
}

// The usual "is there a zero byte" trick; a borrow may mark bytes above the lowest hit only, and only the lowest is used.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

fn equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (ONES * u64::from(byte));
    difference.wrapping_sub(ONES) & !difference & HIGHS
}

fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * u64::from(b' ')) & !word & HIGHS
}

const NOT_AN_OBJECT: DecodeError = DecodeError::broken("not a JSON object");
const CUT_OFF: DecodeError = DecodeError::broken("JSON that ends too early");
const BAD_ESCAPE: DecodeError = DecodeError::broken("not JSON: a bad escape");

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<(), &'static str> {
        check_object(text.as_bytes()).map_err(|error| error.reason)
    }

    #[test]
    fn objects_of_all_kinds_of_values_pass() {
        for good in [
            "{}",
            " {\t}\r\n ",
            r#"{"a":1,"b":-0.5e+10,"c":[true,false,null,[],{}],"d":{"e":"\u00e4\n\"\\"},"":[1,[2,[3]]]}"#,
            r#"{"a" : [ { "b" : [ ] } , 0 , "x" ] }"#,
            "{\"long\":\"0123456789 ä 日本 0123456789\"}",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            " ",
            "[]",
            "1",
            "\"x\"",
            "null",
            "{",
            "}",
            "{}{}",
            "{},",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "{\"a\":tru}",
            "{\"a\":nul",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":{\"b\":1]}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\\u12",
            "{\"a\":\"x",
            "{\"a\":1 2}",
            "{\"a\":NaN}",
            "{\"a\":[,1]}",
            "{\"a\":1}x",
            "\u{feff}{}",
        ] {
            assert!(judge(bad).is_err(), "{bad}");
        }
        assert_eq!(check_object(b"{\"a\":\"\xff\"}").map_err(|e| e.reason), Err("not UTF-8"));
    }

    #[test]
    fn nesting_is_bounded_by_a_word() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(judge(&nested(DEPTH_MAX as usize)), Ok(()));
        assert_eq!(judge(&nested(DEPTH_MAX as usize + 1)), Err("JSON nested too deep"));
        assert_eq!(judge(&"{\"a\":".repeat(20_000)), Err("JSON nested too deep"));
    }

    #[test]
    fn plain_text_is_measured_to_the_byte() {
        for stop in ['"', '\\', '\n', '\0', '\u{1f}'] {
            for before in 0..40 {
                let text = format!("{}{stop}\"\\ rest", "ä".repeat(before / 2) + &"x".repeat(before % 2));
                let expected = text.find(stop).unwrap_or(0);
                assert_eq!(plain_len(text.as_bytes()), expected, "{text:?}");
            }
        }
        assert_eq!(plain_len("\u{7f}\u{80}ÿ~ !".repeat(9).as_bytes()), "\u{7f}\u{80}ÿ~ !".len() * 9);
    }
}
