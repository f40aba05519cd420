//! Streams' names, and the frame that carries their bytes.

use crate::{
    error::Checked,
    frame::{check_end, kind, number, take},
    varint,
};

/// Who opened a connection or a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who accepted.
    Server,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// Whether one side of a stream may send, or both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Both.
    Bidirectional,
    /// The one that opened it.
    Unidirectional,
}

impl Direction {
    pub(crate) fn of(bits: u64) -> Self {
        if bits & 1 == 0 { Direction::Bidirectional } else { Direction::Unidirectional }
    }

    pub(crate) fn bit(self) -> u64 {
        u64::from(self == Direction::Unidirectional)
    }
}

/// A stream: bit 0 who opened it (1: the server), bit 1 its direction (1: unidirectional), above them a counter
/// (RFC 9000, section 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The `index`-th stream of its kind.
    #[must_use]
    pub fn new(opener: Side, direction: Direction, index: u64) -> Self {
        Self(index << 2 | direction.bit() << 1 | u64::from(opener == Side::Server))
    }

    /// Who opened it.
    #[must_use]
    pub fn opener(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }

    /// Who may send.
    #[must_use]
    pub fn direction(self) -> Direction {
        Direction::of(self.0 >> 1)
    }

    /// Counts the streams of its kind.
    #[must_use]
    pub fn index(self) -> u64 {
        self.0 >> 2
    }
}

/// STREAM: bytes of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream<'a> {
    /// Which stream.
    pub id: StreamId,
    /// Of the first byte.
    pub offset: u64,
    /// The stream ends behind these bytes.
    pub fin: bool,
    /// Without its length, a frame reaches to the end of the packet.
    pub has_len: bool,
    /// The bytes.
    pub data: &'a [u8],
}

impl<'a> Stream<'a> {
    pub(crate) fn parse(kind: u64, bytes: &mut &'a [u8]) -> Checked<Self> {
        let id = StreamId(number(bytes)?);
        let offset = if kind & 4 == 0 { 0 } else { number(bytes)? };
        let has_len = kind & 2 != 0;
        let data = if has_len {
            let len = number(bytes)?;
            take(bytes, len)?
        } else {
            std::mem::take(bytes)
        };
        check_end(offset, data)?;
        Ok(Self { id, offset, fin: kind & 1 != 0, has_len, data })
    }

    pub(crate) fn kind(&self) -> u64 {
        kind::STREAM | u64::from(self.offset != 0) << 2 | u64::from(self.has_len) << 1 | u64::from(self.fin)
    }

    /// Bytes in front of the data when the frame carries `len` of them and a length.
    #[must_use]
    pub fn overhead(id: StreamId, offset: u64, len: usize) -> usize {
        1 + varint::len(id.0) + if offset == 0 { 0 } else { varint::len(offset) } + varint::len(len as u64)
    }

    /// Appends type and fields without the data, for a caller that copies `len` bytes of data behind them itself.
    pub(crate) fn encode_head(id: StreamId, offset: u64, fin: bool, len: usize, has_len: bool, out: &mut Vec<u8>) {
        let frame = Stream { id, offset, fin, has_len, data: &[] };
        varint::write(frame.kind(), out);
        frame.encode_numbers(len, out);
    }

    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        self.encode_numbers(self.data.len(), out);
        out.extend_from_slice(self.data);
    }

    fn encode_numbers(&self, len: usize, out: &mut Vec<u8>) {
        varint::write(self.id.0, out);
        if self.offset != 0 {
            varint::write(self.offset, out);
        }
        if self.has_len {
            varint::write(len as u64, out);
        }
    }
}
