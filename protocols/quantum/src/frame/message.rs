//! The frames of messages and of unreliable datagrams.

use crate::{
    error::{Checked, Code, TransportError},
    frame::{kind, number, take},
    varint,
};

/// In which order, and whether at all, the messages of a channel reach the application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Delivery {
    /// Each as soon as it is complete.
    Independent,
    /// In the order of their numbers; one that expired is passed over.
    Ordered,
    /// Each that is newer than all before it; older ones are dropped.
    Newest,
}

/// MESSAGE: a whole message, or a piece of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// The channel that counts it.
    pub channel: u64,
    /// Its number there, from 0 without holes.
    pub number: u64,
    /// How the channel delivers.
    pub delivery: Delivery,
    /// Where in the message `data` begins.
    pub offset: u64,
    /// Bytes of the whole message.
    pub total: u64,
    /// The bytes.
    pub data: &'a [u8],
}

const MALFORMED: TransportError = TransportError::new(Code::FrameEncoding, "malformed MESSAGE frame");

impl<'a> Message<'a> {
    pub(crate) fn parse(kind: u64, bytes: &mut &'a [u8]) -> Checked<Self> {
        let delivery = match kind >> 1 & 3 {
            0 => Delivery::Independent,
            1 => Delivery::Ordered,
            2 => Delivery::Newest,
            _ => return Err(MALFORMED),
        };
        let (channel, number_) = (number(bytes)?, number(bytes)?);
        let (offset, total) = if kind & 1 == 0 { (0, None) } else { (number(bytes)?, Some(number(bytes)?)) };
        let len = number(bytes)?;
        let data = take(bytes, len)?;
        let total = total.unwrap_or(len);
        let fits = offset.checked_add(len).is_some_and(|end| end <= total);
        if !fits || (len == 0 && total != 0) {
            return Err(MALFORMED);
        }
        Ok(Self { channel, number: number_, delivery, offset, total, data })
    }

    pub(crate) fn kind(&self) -> u64 {
        let delivery = match self.delivery {
            Delivery::Independent => 0,
            Delivery::Ordered => 1,
            Delivery::Newest => 2,
        };
        kind::MESSAGE | delivery << 1 | u64::from(self.is_fragment(self.data.len()))
    }

    /// Bytes in front of the data when the frame carries `len` bytes.
    #[must_use]
    pub fn overhead(channel: u64, number: u64, offset: u64, total: u64, len: usize) -> usize {
        let fragment = if offset == 0 && len as u64 == total { 0 } else { varint::len(offset) + varint::len(total) };
        1 + varint::len(channel) + varint::len(number) + fragment + varint::len(len as u64)
    }

    fn is_fragment(&self, len: usize) -> bool {
        self.offset != 0 || len as u64 != self.total
    }

    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        varint::write(self.channel, out);
        varint::write(self.number, out);
        if self.is_fragment(self.data.len()) {
            varint::write(self.offset, out);
            varint::write(self.total, out);
        }
        varint::write(self.data.len() as u64, out);
        out.extend_from_slice(self.data);
    }
}

/// DATAGRAM: bytes that are sent once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// Without its length, it reaches to the end of the packet.
    pub has_len: bool,
    /// The bytes.
    pub data: &'a [u8],
}

impl<'a> Datagram<'a> {
    pub(crate) fn parse(kind: u64, bytes: &mut &'a [u8]) -> Checked<Self> {
        let has_len = kind & 1 != 0;
        let data = if has_len {
            let len = number(bytes)?;
            take(bytes, len)?
        } else {
            std::mem::take(bytes)
        };
        Ok(Self { has_len, data })
    }

    pub(crate) fn kind(&self) -> u64 {
        kind::DATAGRAM | u64::from(self.has_len)
    }

    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        if self.has_len {
            varint::write(self.data.len() as u64, out);
        }
        out.extend_from_slice(self.data);
    }
}
