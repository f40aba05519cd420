//! Frames out of a byte stream: the length is in the header, the body is never looked at.
//!
//! ```text
//!  0 u8  version (3 bits) | flags                4 u32 length of the body, little-endian
//!  1 ..  not this layer's                       16 u64 offset, if flagged; then the body
//! ```

use std::ops::Range;

use thiserror::Error;

/// Bytes of every frame's header.
pub const HEADER_LEN: usize = 16;

/// Bytes of the offset that follows the header when [`OFFSET`] is set.
pub const OFFSET_LEN: usize = 8;

/// The version that this crate frames: the low three bits of the first byte.
pub const VERSION: u8 = 1;

/// Flag: the newest one per sender and key counts, the rest may be dropped.
pub const EPHEMERAL: u8 = 0x08;
/// Flag: the body is compressed by Zstandard.
pub const ZSTD: u8 = 0x10;
/// Flag: an offset of eight bytes stands between header and body.
pub const OFFSET: u8 = 0x20;
/// Flag: the message goes on in the next frame.
pub const MORE: u8 = 0x40;
/// Flag: who does not know the kind may skip the frame.
pub const IGNORABLE: u8 = 0x80;

/// Bytes that an announcement gets memory for before they arrive, so that a small frame cut in two is one allocation.
const CREDIT: usize = 1_024;

const VERSION_MASK: u8 = 0x07;
const BODY_LEN: Range<usize> = 4..8;

/// Why a byte stream cannot be framed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// Not the version that is spoken here: garbage, or a client of another time.
    #[error("frame of version {0}, not {VERSION}")]
    Version(u8),
    /// The body is longer than the limit.
    #[error("frame body of {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Announced bytes.
        len: usize,
        /// Allowed bytes.
        max: usize,
    },
}

/// Cuts a byte stream into frames. A frame that is whole in the input is handed out where it lies; only one that is cut
/// in two is copied, into memory that is given back as soon as the frame was handed out.
#[derive(Debug)]
pub struct Deframer {
    body_max: usize,
    held: Vec<u8>,
    /// `held` is a whole frame that was handed out by the last call.
    given: bool,
    error: Option<FrameError>,
}

impl Deframer {
    /// For frames with bodies of at most `body_max` bytes.
    #[must_use]
    pub fn new(body_max: usize) -> Self {
        Self { body_max, held: Vec::new(), given: false, error: None }
    }

    /// The next whole frame: header, offset if flagged, body. `None`: the input is consumed.
    ///
    /// # Errors
    /// The stream cannot be framed any further; every later call says so again.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<&'a [u8]>, FrameError> {
        if self.given {
            self.given = false;
            self.held = Vec::new();
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let next = if self.held.is_empty() { self.cut(input) } else { self.collect(input) };
        if let Err(error) = next {
            self.error = Some(error);
            self.held = Vec::new();
        }
        match next? {
            Next::Lying(frame) => Ok(Some(frame)),
            Next::Held => {
                self.given = true;
                Ok(Some(&self.held))
            }
            Next::Nothing => Ok(None),
        }
    }

    /// Allows bodies of at most `body_max` bytes from the next header on.
    pub fn set_body_max(&mut self, body_max: usize) {
        self.body_max = body_max;
    }

    /// Bytes of a frame that is not whole.
    #[must_use]
    pub fn pending(&self) -> usize {
        if self.given { 0 } else { self.held.len() }
    }

    /// The frame at the front of the input, or the beginning of one, which is kept.
    fn cut<'a>(&mut self, input: &mut &'a [u8]) -> Result<Next<'a>, FrameError> {
        match self.frame_len(input)? {
            Some(len) if len <= input.len() => Ok(Next::Lying(take(input, len))),
            None if input.is_empty() => Ok(Next::Nothing),
            len => {
                let part = take(input, usize::MAX);
                self.hold(part, len.unwrap_or(HEADER_LEN));
                Ok(Next::Nothing)
            }
        }
    }

    /// Completes the frame whose beginning is kept: first its header, then the rest.
    fn collect(&mut self, input: &mut &[u8]) -> Result<Next<'static>, FrameError> {
        let header = take(input, HEADER_LEN.saturating_sub(self.held.len()));
        self.hold(header, HEADER_LEN.max(self.held.len()));
        let Some(len) = self.frame_len(&self.held)? else { return Ok(Next::Nothing) };
        let part = take(input, len - self.held.len());
        self.hold(part, len);
        Ok(if self.held.len() == len { Next::Held } else { Next::Nothing })
    }

    /// Keeps a part of a frame of `len` bytes, as far as that is known. Takes no more memory in advance than what has
    /// arrived: a peer pays for it in bytes, not in announcements.
    fn hold(&mut self, part: &[u8], len: usize) {
        let arrived = self.held.len() + part.len();
        if arrived > self.held.capacity() {
            self.held.reserve_exact(part.len() + (len - arrived).min(arrived.max(CREDIT)));
        }
        self.held.extend_from_slice(part);
    }

    /// The whole length of the frame that `bytes` begin with, when the header is there.
    fn frame_len(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & VERSION_MASK != VERSION {
            return Err(FrameError::Version(first & VERSION_MASK));
        }
        let Some(field) = bytes.get(..HEADER_LEN).and_then(|header| header[BODY_LEN].first_chunk()) else {
            return Ok(None);
        };
        let body = u32::from_le_bytes(*field) as usize;
        if body > self.body_max {
            return Err(FrameError::TooLong { len: body, max: self.body_max });
        }
        let offset = if first & OFFSET == 0 { 0 } else { OFFSET_LEN };
        Ok(Some(HEADER_LEN + offset + body))
    }
}

/// What one step found.
#[derive(Clone, Copy)]
enum Next<'a> {
    /// A frame in the input.
    Lying(&'a [u8]),
    /// A frame in the inner buffer.
    Held,
    Nothing,
}

/// At most `max` bytes off the front.
fn take<'a>(input: &mut &'a [u8], max: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(max.min(input.len()));
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![VERSION | flags, 7, 0, 0];
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend([0; 8]);
        if flags & OFFSET != 0 {
            bytes.extend(42_u64.to_le_bytes());
        }
        bytes.extend(body);
        bytes
    }

    fn frames(deframer: &mut Deframer, mut input: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut found = Vec::new();
        while let Some(frame) = deframer.next(&mut input)? {
            found.push(frame.to_vec());
        }
        assert!(input.is_empty());
        Ok(found)
    }

    #[test]
    fn frames_come_out_whole_wherever_the_stream_is_cut() {
        let expected =
            [frame(0, b""), frame(OFFSET, b"hello"), frame(EPHEMERAL | IGNORABLE, &[9; 300]), frame(OFFSET, b"")];
        let stream = expected.concat();
        for size in 1..stream.len() {
            let mut deframer = Deframer::new(300);
            let found: Vec<_> = stream.chunks(size).flat_map(|chunk| frames(&mut deframer, chunk).unwrap()).collect();
            assert_eq!(found, expected, "in pieces of {size}");
            assert_eq!((deframer.pending(), deframer.held.capacity()), (0, 0));
        }
    }

    #[test]
    fn a_frame_that_is_whole_in_the_input_is_not_copied() {
        let stream = [frame(0, b"one"), frame(0, b"two")].concat();
        let (mut deframer, mut input) = (Deframer::new(3), &stream[..]);
        let first = deframer.next(&mut input).unwrap().unwrap();
        assert_eq!(first.as_ptr(), stream.as_ptr());
        assert_eq!(input.len(), stream.len() / 2);
    }

    #[test]
    fn another_version_fails_at_its_first_byte_and_stays_failed() {
        let mut deframer = Deframer::new(300);
        assert_eq!(frames(&mut deframer, b"G"), Err(FrameError::Version(7)));
        assert_eq!(frames(&mut deframer, &frame(0, b"fine")), Err(FrameError::Version(7)));
    }

    #[test]
    fn a_body_over_the_limit_fails_at_its_header() {
        let mut deframer = Deframer::new(300);
        let long = frame(OFFSET, &[0; 301]);
        assert_eq!(frames(&mut deframer, &long[..HEADER_LEN - 1]), Ok(vec![]));
        assert_eq!(frames(&mut deframer, &long[HEADER_LEN - 1..]), Err(FrameError::TooLong { len: 301, max: 300 }));
        assert_eq!(deframer.held.capacity(), 0);
    }

    #[test]
    fn memory_follows_what_arrives_not_what_is_announced() {
        let mut deframer = Deframer::new(1 << 30);
        let mut header = frame(0, b"");
        header[BODY_LEN].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        assert_eq!(frames(&mut deframer, &header), Ok(vec![]));
        assert_eq!(frames(&mut deframer, &[0; 100]), Ok(vec![]));
        assert!(deframer.held.capacity() <= 116 + CREDIT, "{}", deframer.held.capacity());
    }
}
