//! The frames of forward error correction.

use crate::{
    error::{Checked, Code, TransportError},
    frame::{ack::Ranges, number, take},
    varint,
};

/// Source symbols and rows of parity of one group together, at most.
pub const GROUP_MAX: usize = 64;

/// REPAIR: one row of the parity of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repair<'a> {
    /// The number of the group's first symbol.
    pub base: u64,
    /// Source symbols in the group.
    pub k: u8,
    /// Which row this is.
    pub row: u8,
    /// The rows come out of a code with 2^class of them.
    pub class: u8,
    /// The row. Its length is that of all symbols of the group with their virtual columns: even.
    pub data: &'a [u8],
}

const MALFORMED: TransportError = TransportError::new(Code::FrameEncoding, "malformed REPAIR frame");

impl<'a> Repair<'a> {
    pub(crate) fn parse(bytes: &mut &'a [u8]) -> Checked<Self> {
        let base = number(bytes)?;
        let [k, row, class] = crate::frame::array(bytes)?;
        let len = number(bytes)?;
        let data = take(bytes, len)?;
        // A group's numbers, and the one behind it, are numbers too.
        let ends = base + u64::from(k) <= varint::MAX;
        let rows = 1usize.checked_shl(u32::from(class)).unwrap_or(usize::MAX);
        let fits = k >= 1 && class <= 6 && usize::from(row) < rows && usize::from(k) + usize::from(row) < GROUP_MAX;
        if !fits || !ends || data.is_empty() || data.len() % 2 != 0 {
            return Err(MALFORMED);
        }
        Ok(Self { base, k, row, class, data })
    }

    /// Bytes in front of a row of `len` bytes.
    #[must_use]
    pub fn overhead(base: u64, len: usize) -> usize {
        1 + varint::len(base) + 3 + varint::len(len as u64)
    }

    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        varint::write(self.base, out);
        out.extend_from_slice(&[self.k, self.row, self.class]);
        varint::write(self.data.len() as u64, out);
        out.extend_from_slice(self.data);
    }
}

/// SYMBOL_ACK: symbols that were recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SymbolAck<'a> {
    /// The largest number among them.
    pub largest: u64,
    /// All of them.
    pub ranges: Ranges<'a>,
}

impl<'a> SymbolAck<'a> {
    pub(crate) fn parse(bytes: &mut &'a [u8]) -> Checked<Self> {
        let largest = number(bytes)?;
        Ok(Self { largest, ranges: Ranges::parse(largest, bytes)? })
    }

    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        varint::write(self.largest, out);
        self.ranges.encode_fields(out);
    }
}
