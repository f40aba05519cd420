//! Packet numbers: 62 bits, of which as few as possible go over the wire (RFC 9000, section 17.1 and appendix A).

/// Bytes of a packet number on the wire, at most.
pub const NUMBER_LEN_MAX: usize = 4;

/// Which of its three counts a packet number belongs to. 0-RTT counts together with 1-RTT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Space {
    /// Initial packets.
    Initial,
    /// Handshake packets.
    Handshake,
    /// 0-RTT and 1-RTT packets.
    Application,
}

impl Space {
    /// All of them, in the order of the handshake.
    pub const ALL: [Space; 3] = [Space::Initial, Space::Handshake, Space::Application];

    /// For tables: 0, 1 or 2.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Bytes that `number` needs, so that a peer which may have seen no more than `largest_acked` expands it rightly
/// (RFC 9000, appendix A.2): twice the distance must fit. A peer that acknowledges none of 2^31 packets cannot expand the
/// next one; windows end long before.
#[must_use]
pub fn number_len(number: u64, largest_acked: Option<u64>) -> usize {
    let distance = largest_acked.map_or(number + 1, |largest| number - largest);
    match distance {
        0..=0x7F => 1,
        0x80..=0x7FFF => 2,
        0x8000..=0x7F_FFFF => 3,
        _ => 4,
    }
}

/// The number nearest to `expected`, one more than the largest received, that ends in the `len` bytes of `truncated`
/// (RFC 9000, appendix A.3).
#[must_use]
pub fn expand(truncated: u64, len: usize, expected: u64) -> u64 {
    let window = 1u64 << (8 * len);
    let half = window / 2;
    let candidate = expected & !(window - 1) | truncated;
    if candidate + half <= expected && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > expected + half && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

/// The last `len` bytes of `number`.
pub(crate) fn write_number(number: u64, len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes()[8 - len..]);
}
