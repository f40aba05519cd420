//! The layout that frames (RFC 9114 section 7.1) and capsules (RFC 9297 section 3.2) share, read in any pieces.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    code::Fault,
    varint::{self, Partial},
};

/// Types of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u64 = 0x0;
    pub(crate) const HEADERS: u64 = 0x1;
    pub(crate) const CANCEL_PUSH: u64 = 0x3;
    pub(crate) const SETTINGS: u64 = 0x4;
    pub(crate) const PUSH_PROMISE: u64 = 0x5;
    pub(crate) const GOAWAY: u64 = 0x7;
    pub(crate) const MAX_PUSH_ID: u64 = 0xd;
    /// Not a frame: what follows on a fresh stream is a session id and WebTransport bytes.
    pub(crate) const WT_STREAM: u64 = 0x41;
    pub(crate) const PRIORITY_UPDATE_REQUEST: u64 = 0xf0700;
    pub(crate) const PRIORITY_UPDATE_PUSH: u64 = 0xf0701;

    /// Whether HTTP/2 has such a frame and HTTP/3 has not: refused, RFC 9114 section 7.2.8.
    pub(crate) fn is_of_http2(kind: u64) -> bool {
        matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
    }
}

/// Memory that a gathered payload gets before its bytes are there.
const GATHER_START: usize = 1024;

/// What the owner of a [`Reader`] wants of a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// All of it at once, if it has at most so many bytes.
    Gather(usize),
    /// Its bytes as they come.
    Pass,
    /// Nothing of it.
    Skip,
    /// There is no length and no payload: the type stands alone.
    Bare,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Item {
    /// A gathered payload.
    Whole(u64, Bytes),
    /// A piece of a passed payload; never empty.
    Piece(Bytes),
    /// A type that stands alone.
    Bare,
    /// A payload that is too long to gather; the reader skips it.
    TooLong(u64),
}

/// Reads one frame after the other.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    kind: Option<(u64, Plan)>,
    partial: Partial,
    left: u64,
    payload: bool,
    gathered: BytesMut,
}

impl Reader {
    /// Whether the next byte begins a frame.
    pub(crate) fn is_between(&self) -> bool {
        self.kind.is_none() && self.partial.is_empty()
    }

    /// The next item in `input`, which is used up when there is none.
    ///
    /// # Errors
    /// What `plan`, which is asked once for each frame's type, finds wrong with it.
    pub(crate) fn next(
        &mut self,
        input: &mut Bytes,
        mut plan: impl FnMut(u64) -> Result<Plan, Fault>,
    ) -> Result<Option<Item>, Fault> {
        loop {
            let (kind, how) = match self.kind {
                Some(known) => known,
                None => {
                    let Some(kind) = self.partial.take(input) else { return Ok(None) };
                    let how = plan(kind)?;
                    if matches!(how, Plan::Bare) {
                        return Ok(Some(Item::Bare));
                    }
                    self.kind = Some((kind, how));
                    (kind, how)
                }
            };
            if !self.payload {
                let Some(len) = self.partial.take(input) else { return Ok(None) };
                (self.payload, self.left) = (true, len);
                if matches!(how, Plan::Gather(max) if len > max as u64) {
                    self.kind = Some((kind, Plan::Skip));
                    return Ok(Some(Item::TooLong(kind)));
                }
            }
            if let Some(item) = self.read_payload(kind, how, input) {
                return Ok(Some(item));
            }
            if self.left > 0 {
                return Ok(None);
            }
            self.finish();
        }
    }

    fn read_payload(&mut self, kind: u64, how: Plan, input: &mut Bytes) -> Option<Item> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        self.left -= len as u64;
        match how {
            Plan::Gather(_) if self.gathered.is_empty() && self.left == 0 => {
                self.finish();
                Some(Item::Whole(kind, input.split_to(len)))
            }
            Plan::Gather(_) => {
                let wanted = (self.left as usize).saturating_add(len).min(GATHER_START.max(len));
                self.gathered.reserve(wanted);
                self.gathered.extend_from_slice(&input.split_to(len));
                if self.left > 0 {
                    return None;
                }
                let whole = std::mem::take(&mut self.gathered).freeze();
                self.finish();
                Some(Item::Whole(kind, whole))
            }
            Plan::Pass if len > 0 => Some(Item::Piece(input.split_to(len))),
            Plan::Pass | Plan::Skip | Plan::Bare => {
                input.advance(len);
                None
            }
        }
    }

    fn finish(&mut self) {
        (self.kind, self.payload) = (None, false);
    }
}

/// Appends a frame or capsule.
pub(crate) fn write(out: &mut BytesMut, kind: u64, payload: &[u8]) {
    write_head(out, kind, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends type and length; `len` bytes are to follow.
pub(crate) fn write_head(out: &mut BytesMut, kind: u64, len: u64) {
    varint::write(out, kind);
    varint::write(out, len);
}

/// A reserved type or id (RFC 9114 section 7.2.8): the receiver must skip it. `seed` chooses which.
pub(crate) fn grease(seed: u64) -> u64 {
    0x1f * (seed % 0x0fff_ffff) + 0x21
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h3::code::Code;

    fn plan(kind: u64) -> Result<Plan, Fault> {
        match kind {
            kind::DATA => Ok(Plan::Pass),
            kind::HEADERS => Ok(Plan::Gather(5)),
            kind::WT_STREAM => Ok(Plan::Bare),
            0x2 => Err(Fault::Connection(Code::FRAME_UNEXPECTED, "")),
            _ => Ok(Plan::Skip),
        }
    }

    /// All items as text, pieces that touch joined.
    fn read(pieces: &[&[u8]]) -> String {
        let mut reader = Reader::default();
        let mut out = String::new();
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                match reader.next(&mut input, plan) {
                    Ok(None) => break,
                    Ok(Some(Item::Whole(kind, bytes))) => out += &format!("<{kind}:{}>", bytes.escape_ascii()),
                    Ok(Some(Item::Piece(bytes))) => out += &bytes.escape_ascii().to_string(),
                    Ok(Some(Item::Bare)) => return out + "<bare>",
                    Ok(Some(Item::TooLong(kind))) => out += &format!("<{kind}!>"),
                    Err(_) => return out + "<fault>",
                }
            }
            assert!(input.is_empty());
        }
        out + if reader.is_between() { "" } else { "<cut>" }
    }

    #[test]
    fn frames_in_any_pieces_are_the_same() {
        let whole = b"\x01\x05hello\x00\x02hi\x00\x00\x21\x03xyz\x00\x40\x01!\x01\x00\x01\x06toolong\x07aaaaaaa";
        let expected = "<1:hello>hi!<1:><1!>";
        // The over-long frame has six bytes: "toolon", and "g" is the type of a skipped one.
        for first in 0..whole.len() {
            let (a, b) = whole.split_at(first);
            let once = read(&[whole]);
            assert!(once.starts_with(expected), "{once}");
            assert_eq!(read(&[a, b]), once);
        }
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(read(&bytes), read(&[whole]));
    }

    #[test]
    fn a_refused_or_bare_type_needs_no_length() {
        assert_eq!(read(&[&[0x2]]), "<fault>");
        assert_eq!(read(&[&[0x40], &[0x41]]), "<bare>");
        assert_eq!(read(&[&[0x0, 0x2, 0x61]]), "a<cut>");
        assert_eq!(read(&[&[0xc0]]), "<cut>");
    }

    #[test]
    fn a_written_frame_is_read_back() {
        let mut out = BytesMut::new();
        write(&mut out, kind::HEADERS, b"abc");
        write(&mut out, grease(77), b"whatever");
        assert_eq!(read(&[&out]), "<1:abc>");
    }
}
