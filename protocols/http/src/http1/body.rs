//! The body of a request as it arrives, by length or in chunks, collected within a bound.

use bytes::{Buf, BytesMut};

use crate::{
    http1::scan::{Bounds, Scan},
    limit::{CHUNK_DIGITS_MAX, CHUNK_LINE_MAX, HEADERS_MAX, TRAILER_MAX},
    rule::Rule,
};

/// What is still to come.
#[derive(Debug)]
pub(crate) struct Body(State);

#[derive(Clone, Copy, Debug)]
enum State {
    Length(usize),
    Size { value: usize, digits: usize },
    Extension { value: usize, len: usize },
    SizeEnd { value: usize },
    Data(usize),
    DataEnd,
    DataEndLine,
    Trailer(Scan),
    Done,
}

const TRAILER: Bounds = Bounds {
    first_line_max: TRAILER_MAX,
    first_line_rule: Rule::Trailer,
    section_max: TRAILER_MAX,
    section_rule: Rule::Trailer,
};

/// Fields that would change how the message is read: never in a trailer.
const FRAMING: [&str; 6] = ["content-length", "transfer-encoding", "host", "connection", "expect", "trailer"];

impl Body {
    pub(crate) fn of_length(length: usize) -> Self {
        Self(if length == 0 { State::Done } else { State::Length(length) })
    }

    pub(crate) fn chunked() -> Self {
        Self(State::Size { value: 0, digits: 0 })
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Moves what belongs to the body from `input` to `body`; `true` when it is whole.
    pub(crate) fn read(&mut self, input: &mut BytesMut, body: &mut BytesMut, max: usize) -> Result<bool, Rule> {
        while !self.is_done() && !input.is_empty() {
            self.0 = match self.0 {
                State::Length(left) => match move_bytes(input, body, left) {
                    0 => State::Done,
                    left => State::Length(left),
                },
                State::Data(left) => match move_bytes(input, body, left) {
                    0 => State::DataEnd,
                    left => State::Data(left),
                },
                State::Trailer(mut scan) => match scan.find_end(input, &TRAILER)? {
                    Some(len) => {
                        check_trailer(&input.split_to(len))?;
                        State::Done
                    }
                    None => {
                        self.0 = State::Trailer(scan);
                        return Ok(false);
                    }
                },
                line => line.next(input.get_u8(), max.saturating_sub(body.len()))?,
            };
        }
        Ok(self.is_done())
    }
}

impl State {
    /// One byte of a chunk's line, or of the line end after its data.
    fn next(self, byte: u8, room: usize) -> Result<Self, Rule> {
        match (self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < CHUNK_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).ok_or(Rule::Chunk)?;
                Ok(Self::Size { value: value * 16 + digit as usize, digits: digits + 1 })
            }
            (Self::Size { value, digits: 1.. }, b'\r' | b';') if value > room => Err(Rule::BodyTooLarge),
            (Self::Size { value, digits: 1.. }, b'\r') => Ok(Self::SizeEnd { value }),
            (Self::Size { value, digits: 1.. }, b';') => Ok(Self::Extension { value, len: 1 }),
            (Self::Extension { value, .. }, b'\r') => Ok(Self::SizeEnd { value }),
            (Self::Extension { value, len }, b'\t' | b' '..=b'~') if len < CHUNK_LINE_MAX => {
                Ok(Self::Extension { value, len: len + 1 })
            }
            (Self::SizeEnd { value: 0 }, b'\n') => Ok(Self::Trailer(Scan::default())),
            (Self::SizeEnd { value }, b'\n') => Ok(Self::Data(value)),
            (Self::DataEnd, b'\r') => Ok(Self::DataEndLine),
            (Self::DataEndLine, b'\n') => Ok(Self::Size { value: 0, digits: 0 }),
            _ => Err(Rule::Chunk),
        }
    }
}

/// Moves up to `left` bytes; gives back what is left. A body that is whole in `input` is not copied.
fn move_bytes(input: &mut BytesMut, body: &mut BytesMut, left: usize) -> usize {
    let len = left.min(input.len());
    let part = input.split_to(len);
    if body.is_empty() && len == left {
        *body = part;
    } else {
        body.extend_from_slice(&part);
    }
    left - len
}

/// A trailer section must be header fields that change nothing; they are dropped.
fn check_trailer(section: &[u8]) -> Result<(), Rule> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((len, fields))) if len == section.len() => {
            let framing = |name: &str| FRAMING.iter().any(|field| name.eq_ignore_ascii_case(field));
            if fields.iter().any(|field| framing(field.name)) { Err(Rule::Trailer) } else { Ok(()) }
        }
        _ => Err(Rule::Trailer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], piece: usize) -> (Result<bool, Rule>, Vec<u8>, usize) {
        let (mut state, mut body, mut pending) = (Body::chunked(), BytesMut::new(), BytesMut::new());
        let mut result = Ok(false);
        let mut fed = 0;
        for part in input.chunks(piece) {
            pending.extend_from_slice(part);
            fed += part.len();
            result = state.read(&mut pending, &mut body, 20);
            if result != Ok(false) {
                break;
            }
        }
        (result, body.to_vec(), input.len() - fed + pending.len())
    }

    #[test]
    fn chunks() {
        let long_extension = [&b"1;"[..], &[b'x'; CHUNK_LINE_MAX + 1], b"\r\na\r\n0\r\n\r\n"].concat();
        let long_trailer = [&b"0\r\na: "[..], &[b'x'; TRAILER_MAX], b"\r\n\r\n"].concat();
        type Case<'a> = (&'a [u8], Result<bool, Rule>, &'a [u8]);
        let cases: [Case<'_>; 24] = [
            (b"0\r\n\r\n", Ok(true), b""),
            (b"5\r\nhello\r\n0\r\n\r\n", Ok(true), b"hello"),
            (b"5\r\nhello\r\n006\r\n world\r\n0\r\n\r\nnext", Ok(true), b"hello world"),
            (b"a;name=\"v\"\r\n0123456789\r\nA\r\n0123456789\r\n0;x\r\n\r\n", Ok(true), b"01234567890123456789"),
            (b"5\r\nhello\r\n0\r\na: b\r\n\r\n", Ok(true), b"hello"),
            (b"15\r\n", Err(Rule::BodyTooLarge), b""),
            (b"ffffffff\r\n", Err(Rule::BodyTooLarge), b""),
            (b"fffffffff\r\n", Err(Rule::Chunk), b""),
            (b"0x5\r\n", Err(Rule::Chunk), b""),
            (b"+5\r\n", Err(Rule::Chunk), b""),
            (b"-5\r\n", Err(Rule::Chunk), b""),
            (b" 5\r\n", Err(Rule::Chunk), b""),
            (b"5 \r\n", Err(Rule::Chunk), b""),
            (b"5_0\r\n", Err(Rule::Chunk), b""),
            (b"\r\n", Err(Rule::Chunk), b""),
            (b";x\r\n", Err(Rule::Chunk), b""),
            (b"5\nhello", Err(Rule::Chunk), b""),
            (b"5;a\nb\r\n", Err(Rule::Chunk), b""),
            (b"5;a\rb\r\n", Err(Rule::Chunk), b""),
            (b"5\r\nhelloX", Err(Rule::Chunk), b"hello"),
            (b"5\r\nhello\n0\r\n\r\n", Err(Rule::Chunk), b"hello"),
            (b"0\r\ncontent-length: 1\r\n\r\n", Err(Rule::Trailer), b""),
            (&long_extension, Err(Rule::Chunk), b""),
            (&long_trailer, Err(Rule::Trailer), b""),
        ];
        for (input, expected, body) in cases {
            for piece in [1, 2, 3, 7, input.len()] {
                let (result, got, left) = read(input, piece);
                assert_eq!(result, expected, "{}", input.escape_ascii());
                assert_eq!(got.escape_ascii().to_string(), body.escape_ascii().to_string());
                assert!(result != Ok(true) || left == if input.ends_with(b"next") { 4 } else { 0 });
            }
        }
    }
}
