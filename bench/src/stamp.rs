//! The header of each payload: who sent it, its number, when it was meant to leave, and a check over all of it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Bytes of a stamp in a binary payload.
pub const STAMP_BYTES: usize = 28;
/// Marks a stamp inside text, so that it is found in any codec's message.
const MARK: &[u8] = b"~stamp:";
/// Bytes of a stamp in a text payload: the mark, then two hex digits per byte.
pub const STAMP_TEXT_BYTES: usize = MARK.len() + 2 * STAMP_BYTES;
/// What fills a payload up to its size.
pub const FILL: u8 = b'.';

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

/// One payload's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The sender, counted over all shards.
    pub connection: u32,
    /// Counts the sender's payloads from 0.
    pub number: u64,
    /// The intended time, in nanoseconds of the run.
    pub planned_ns: u64,
    /// How much later it really left; about 4 seconds and more are the same.
    pub late_ns: u32,
}

impl Stamp {
    /// As bytes, with the check at the end.
    #[must_use]
    pub fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..4].copy_from_slice(&self.connection.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.planned_ns.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.late_ns.to_le_bytes());
        bytes[24..].copy_from_slice(&self.check().to_le_bytes());
        bytes
    }

    /// Reads a stamp; `None` if a bit of it changed on the way.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP_BYTES] = bytes.first_chunk()?;
        let (connection, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (planned, rest) = rest.split_first_chunk()?;
        let (late, check) = rest.split_first_chunk()?;
        let stamp = Self {
            connection: u32::from_le_bytes(*connection),
            number: u64::from_le_bytes(*number),
            planned_ns: u64::from_le_bytes(*planned),
            late_ns: u32::from_le_bytes(*late),
        };
        (check == stamp.check().to_le_bytes()).then_some(stamp)
    }

    /// Writes a payload of `size` bytes, at least the stamp.
    pub fn write(self, size: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
        out.resize(out.len() + size.saturating_sub(STAMP_BYTES), FILL);
    }

    /// Reads a payload of [`Stamp::write`]; `None` if any byte of it changed.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let stamp = Self::from_bytes(payload)?;
        payload[STAMP_BYTES..].iter().all(|byte| *byte == FILL).then_some(stamp)
    }

    /// Writes it as text of `size` bytes, at least the stamp, that needs no escape in JSON.
    pub fn write_text(self, size: usize, out: &mut String) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.extend(MARK.iter().map(|byte| char::from(*byte)));
        for byte in self.to_bytes() {
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        out.extend(std::iter::repeat_n(char::from(FILL), size.saturating_sub(STAMP_TEXT_BYTES)));
    }

    /// Finds a text stamp in a message: `None` if there is none, an inner `None` if it is damaged.
    #[must_use]
    pub fn find(message: &[u8]) -> Option<Option<Self>> {
        let start = FINDER.find(message)? + MARK.len();
        Some(message.get(start..start + 2 * STAMP_BYTES).and_then(unhex).and_then(|bytes| Self::from_bytes(&bytes)))
    }

    fn check(self) -> u32 {
        // Multiplication spreads every bit of every field over the upper half; not a checksum for hostile peers.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut sum = SPREAD ^ u64::from(self.connection) << 32 ^ u64::from(self.late_ns);
        for field in [self.number, self.planned_ns] {
            sum = (sum ^ field).wrapping_mul(SPREAD);
            sum ^= sum >> 32;
        }
        (sum.wrapping_mul(SPREAD) >> 32) as u32
    }
}

fn unhex(text: &[u8]) -> Option<[u8; STAMP_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; STAMP_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { connection: 9, number: 1 << 40, planned_ns: 123_456_789, late_ns: 17 };

    #[test]
    fn any_changed_bit_is_seen() {
        let mut payload = Vec::new();
        STAMP.write(64, &mut payload);
        assert_eq!((payload.len(), Stamp::read(&payload)), (64, Some(STAMP)));
        for bit in 0..64 * 8 {
            let mut damaged = payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn text_is_found_in_a_message_and_damage_is_seen() {
        let mut text = String::new();
        STAMP.write_text(100, &mut text);
        assert_eq!(text.len(), 100);
        let message = format!(r#"{{"kind":"msg","body":{{"type":"text","text":"{text}"}}}}"#);
        assert_eq!(Stamp::find(message.as_bytes()), Some(Some(STAMP)));
        assert_eq!(Stamp::find(message.replace("~stamp:09", "~stamp:08").as_bytes()), Some(None));
        assert_eq!(Stamp::find(b"~stamp:09"), Some(None));
        assert_eq!(Stamp::find(br#"{"kind":"pong"}"#), None);
    }
}
