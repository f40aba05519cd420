//! Variable-length integers: 1, 2, 4 or 8 bytes, the two highest bits say which (RFC 9000, section 16).

/// The largest number that fits.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes.
///
/// # Panics
/// Above [`MAX`]: no field of ours may grow there.
#[must_use]
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3F => 1,
        0x40..=0x3FFF => 2,
        0x4000..=0x3FFF_FFFF => 4,
        0x4000_0000..=MAX => 8,
        _ => panic!("a varint holds 62 bits"),
    }
}

/// Appends `value` in its shortest form.
///
/// # Panics
/// Above [`MAX`].
pub fn write(value: u64, out: &mut Vec<u8>) {
    match len(value) {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        4 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xC000_0000_0000_0000).to_be_bytes()),
    }
}

/// Takes a number off the front of `bytes`; `None` when they end before it does. Longer forms than needed are read too.
pub fn read(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, _) = bytes.split_first()?;
    let len = 1 << (first >> 6);
    let (number, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    let mut value = u64::from(first & 0x3F);
    for byte in &number[1..] {
        value = value << 8 | u64::from(*byte);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_at_every_edge() {
        for value in [0, 1, 0x3F, 0x40, 0x3FFF, 0x4000, 0x3FFF_FFFF, 0x4000_0000, MAX] {
            let mut out = Vec::new();
            write(value, &mut out);
            assert_eq!(out.len(), len(value));
            let mut rest = &out[..];
            assert_eq!(read(&mut rest), Some(value));
            assert!(rest.is_empty());
            assert_eq!(read(&mut &out[..out.len() - 1]), None);
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 9000, appendix A.1.
        let read = |mut bytes: &[u8]| read(&mut bytes);
        assert_eq!(read(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]), Some(151_288_809_941_952_652));
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d]), Some(494_878_333));
        assert_eq!(read(&[0x7b, 0xbd]), Some(15_293));
        assert_eq!(read(&[0x40, 0x25]), Some(37));
    }
}
