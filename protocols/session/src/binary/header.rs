//! The 16 bytes in front of every body.
//!
//! ```text
//!  0 u8  version (3 bits) | flags                4 u32 length of the body      12 u32 correlation id (0: push)
//!  1 u8  kind           2 u16 operation (0)      8 u32 topic alias (0: none)   16 u64 offset, if flagged
//! ```

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use crate::{DecodeError, Flaw, VERSION};

/// Bytes of every header.
pub const HEADER_LEN: usize = OFFSET.start;
/// Bytes of the offset behind it, if flagged.
pub const OFFSET_LEN: usize = 8;

const FIRST: usize = 0;
const KIND: usize = 1;
const OPERATION: Range<usize> = 2..4;
const BODY_LEN: Range<usize> = OPERATION.end..OPERATION.end + 4;
const ALIAS: Range<usize> = BODY_LEN.end..BODY_LEN.end + 4;
const ID: Range<usize> = ALIAS.end..ALIAS.end + 4;
const OFFSET: Range<usize> = ID.end..ID.end + OFFSET_LEN;
const _: () = assert!(HEADER_LEN == 16, "the drawing and the ranges are the same");

const VERSION_MASK: u8 = 0b111;

/// What the upper five bits of the first byte say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// Only the newest one per sender and key counts; it may be dropped.
    pub const EPHEMERAL: Self = Self(0x08);
    /// The body is compressed by Zstandard. Not spoken in this version.
    pub const ZSTD: Self = Self(0x10);
    /// An offset stands between header and body.
    pub const OFFSET: Self = Self(0x20);
    /// The message goes on in the next frame. Not spoken in this version.
    pub const MORE: Self = Self(0x40);
    /// Who does not know the kind may skip the frame.
    pub const IGNORABLE: Self = Self(0x80);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $number:literal,)+) => {
        /// What a frame is.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])+ $name = $number,)+ }

        impl Kind {
            /// The kind with this number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// A client's first message.
    Hello = 1,
    /// The answer to it.
    Welcome = 2,
    /// Is anybody there?
    Ping = 3,
    /// Yes.
    Pong = 4,
    /// The server ends this connection soon.
    Goaway = 5,
    /// Call an operation.
    Req = 6,
    /// Its result.
    Res = 7,
    /// It cannot be done.
    Err = 8,
    /// Subscribe.
    Sub = 9,
    /// The subscription stands.
    SubOk = 10,
    /// End a subscription.
    Unsub = 11,
    /// It has ended.
    UnsubOk = 12,
    /// Publish.
    Pub = 13,
    /// The message has its place.
    PubOk = 14,
    /// A message of a topic.
    Msg = 15,
    /// The newest value of (sender, key), in both directions.
    Eph = 16,
    /// History was trimmed.
    Gap = 17,
    /// Watermarks.
    Ack = 18,
    /// Who came and went.
    Presence = 19,
    /// Reserved: the number of messages that may be sent.
    Credit = 20,
}

/// A header that was checked, apart from its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The flags.
    pub flags: Flags,
    /// The kind's number; a later version may have more.
    pub kind: u8,
    /// The topic's number on this connection; 0: none.
    pub alias: u32,
    /// Correlation; 0: a push.
    pub id: u32,
    /// The offset, if flagged.
    pub offset: Option<u64>,
}

impl Header {
    /// The header of an own frame.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let flags = if kind == Kind::Eph { Flags::EPHEMERAL } else { Flags::default() };
        Self { flags, kind: kind as u8, alias: 0, id: 0, offset: None }
    }

    pub(crate) fn with_id(self, id: u32) -> Self {
        Self { id, ..self }
    }

    pub(crate) fn with_alias(self, alias: u32) -> Self {
        Self { alias, ..self }
    }

    pub(crate) fn with_offset(self, offset: u64) -> Self {
        Self { flags: Flags(self.flags.0 | Flags::OFFSET.0), offset: Some(offset), ..self }
    }

    /// Cuts one whole frame into header and body.
    ///
    /// # Errors
    /// When it is not one frame, or one that this version cannot read.
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (head, rest) = frame.split_first_chunk::<HEADER_LEN>().ok_or(SHORT)?;
        if head[FIRST] & VERSION_MASK != VERSION {
            return Err(DecodeError::broken("a frame of another version"));
        }
        let flags = Flags(head[FIRST] & !VERSION_MASK);
        let (offset, body) = if flags.has(Flags::OFFSET) {
            let (offset, body) = rest.split_first_chunk::<OFFSET_LEN>().ok_or(SHORT)?;
            (Some(u64::from_le_bytes(*offset)), body)
        } else {
            (None, rest)
        };
        if body.len() as u64 != u64::from(number(head, BODY_LEN)) {
            return Err(DecodeError::broken("the frame's length is not that of its body"));
        }
        if flags.has(Flags::ZSTD) || flags.has(Flags::MORE) {
            return Err(DecodeError::broken("compressed and continued frames were not agreed upon"));
        }
        Ok((Self { flags, kind: head[KIND], alias: number(head, ALIAS), id: number(head, ID), offset }, body))
    }

    /// Appends a frame whose body is appended by `body`.
    pub(crate) fn frame(self, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
        let start = out.len();
        out.put_u8(VERSION | self.flags.0);
        out.put_u8(self.kind);
        out.put_u16_le(0);
        out.put_u32_le(0);
        out.put_u32_le(self.alias);
        out.put_u32_le(self.id);
        if let Some(offset) = self.offset {
            out.put_u64_le(offset);
        }
        let body_start = out.len();
        body(out);
        let len = u32::try_from(out.len() - body_start).unwrap_or(u32::MAX);
        assert!(len < u32::MAX, "a body of 4 GiB is beyond every limit");
        out[start + BODY_LEN.start..start + BODY_LEN.end].copy_from_slice(&len.to_le_bytes());
    }

    /// The kind, when it is one that is known here.
    ///
    /// # Errors
    /// Whether the frame may be skipped.
    pub fn known(&self) -> Result<Kind, DecodeError> {
        Kind::from_number(self.kind).ok_or_else(|| self.unknown())
    }

    /// What to say of a kind that is not known, or not in this direction.
    pub(crate) fn unknown(&self) -> DecodeError {
        let flaw = if self.flags.has(Flags::IGNORABLE) { Flaw::Ignorable } else { Flaw::UnknownKind };
        DecodeError { flaw, ..DecodeError::unknown_kind(self.request_id()) }
    }

    /// The correlation id, if there is one.
    #[must_use]
    pub fn request_id(&self) -> Option<u32> {
        (self.id != 0).then_some(self.id)
    }
}

fn number(head: &[u8; HEADER_LEN], range: Range<usize>) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&head[range]);
    u32::from_le_bytes(bytes)
}

const SHORT: DecodeError = DecodeError::broken("a frame shorter than its header");
