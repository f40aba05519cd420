//! The integers of RFC 9000 section 16: 62 bits in 1, 2, 4 or 8 bytes, read as they arrive.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest value.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Bytes of the longest encoding.
pub(crate) const LEN_MAX: usize = 8;

/// The integer that `bytes` begin with, and its length.
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let rest = bytes.get(1..len)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, len))
}

/// The whole of `bytes` as one integer.
pub(crate) fn read_only(bytes: &[u8]) -> Option<u64> {
    read(bytes).filter(|(_, len)| *len == bytes.len()).map(|(value, _)| value)
}

/// Bytes of the shortest encoding of `value`.
pub(crate) const fn len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends `value`, which is at most [`MAX`].
pub(crate) fn write(out: &mut BytesMut, value: u64) {
    assert!(value <= MAX, "a varint has 62 bits");
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 0x4000),
        4 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// An integer of which perhaps only the first bytes have arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Partial {
    bytes: [u8; LEN_MAX],
    len: u8,
}

impl Partial {
    /// Whether nothing of the integer has arrived.
    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Takes the integer off `input` as soon as it is whole; until then all of `input`.
    pub(crate) fn take(&mut self, input: &mut Bytes) -> Option<u64> {
        if self.len == 0
            && let Some((value, len)) = read(input)
        {
            input.advance(len);
            return Some(value);
        }
        while !input.is_empty() {
            self.bytes[usize::from(self.len)] = input.get_u8();
            self.len += 1;
            if let Some((value, _)) = read(&self.bytes[..self.len.into()]) {
                self.len = 0;
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_a_1() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(read_only(bytes), Some(value));
            let mut out = BytesMut::new();
            write(&mut out, value);
            assert_eq!((&out[..], len(value)), (bytes, bytes.len()));
        }
        assert_eq!(read_only(&[0x40, 0x25]), Some(37));
        assert_eq!((read(&[]), read(&[0x40]), read_only(&[0x25, 0])), (None, None, None));
    }

    #[test]
    fn a_partial_integer_takes_no_byte_too_much() {
        for cut in 0..=8 {
            let mut partial = Partial::default();
            let mut first = Bytes::from_static(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c, 7]);
            let mut second = first.split_off(cut);
            let value = partial.take(&mut first).or_else(|| partial.take(&mut second));
            assert_eq!((value, &[&first[..], &second[..]].concat()[..]), (Some(151_288_809_941_952_652), &[7][..]));
            assert!(partial.is_empty());
        }
    }
}
