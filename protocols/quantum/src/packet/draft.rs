//! Writing packets: a header, room for frames behind it, then sealing.

use rustls::quic::{HeaderProtectionKey, PacketKey};

use crate::{
    frame::RESET_TOKEN_LEN,
    guuid::Guuid,
    packet::{
        DESTINATION, LONG, LONG_HEAD, NUMBER_LEN_MAX, QUIC, SAMPLE_LEN, SHORT_HEAD, TAG_LEN, VERSION, VERSION_AT,
        number::{number_len, write_number},
    },
    token, varint,
};

/// Packet number and payload together, at least: one more than a sample needs, so that the shortest packet with a short
/// header is longer than the shortest stateless reset and may be answered by one.
const SEALED_MIN: usize = NUMBER_LEN_MAX + 1;

/// Bytes of a stateless reset, at least: it must look like a packet with a short header.
pub const RESET_BYTES_MIN: usize = SHORT_HEAD + 4 + RESET_TOKEN_LEN;

/// A length is always written with 2 bytes, since it is known only when the frames are.
pub const LENGTH_MAX: usize = 0x3FFF;

/// Which packet a long header is of; bits 5 and 4 of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LongKind {
    /// The first flight.
    Initial,
    /// Data before the handshake is done.
    ZeroRtt,
    /// The rest of the handshake.
    Handshake,
    /// The server wants its token back.
    Retry,
}

impl LongKind {
    pub(super) fn of(first: u8) -> Self {
        match first >> 4 & 3 {
            0 => LongKind::Initial,
            1 => LongKind::ZeroRtt,
            2 => LongKind::Handshake,
            _ => LongKind::Retry,
        }
    }

    fn first(self) -> u8 {
        LONG | (self as u8) << 4
    }
}

/// A packet that is being written at the end of a buffer: frames are appended behind its header, then it is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Draft {
    start: usize,
    /// Of a long header: where its length stands.
    length_at: Option<usize>,
    number_at: usize,
    payload_at: usize,
    number: u64,
}

/// Begins a packet with a long header, other than Retry. Only Initial packets have a token.
///
/// # Panics
/// If `kind` is Retry.
pub fn encode_long(
    kind: LongKind,
    to: Guuid,
    from: Guuid,
    token: &[u8],
    number: u64,
    largest_acked: Option<u64>,
    out: &mut Vec<u8>,
) -> Draft {
    assert!(kind != LongKind::Retry, "a Retry packet has no number");
    let (start, number_len) = (out.len(), number_len(number, largest_acked));
    out.push(kind.first() | (number_len - 1) as u8);
    ids(VERSION, to, from, out);
    if kind == LongKind::Initial {
        varint::write(token.len() as u64, out);
        out.extend_from_slice(token);
    }
    let length_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let number_at = out.len();
    write_number(number, number_len, out);
    Draft { start, length_at: Some(length_at), number_at, payload_at: out.len(), number }
}

/// Begins a packet with a short header.
pub fn encode_short(
    to: Guuid,
    key_phase: bool,
    spin: bool,
    number: u64,
    largest_acked: Option<u64>,
    out: &mut Vec<u8>,
) -> Draft {
    let (start, number_len) = (out.len(), number_len(number, largest_acked));
    out.push(u8::from(spin) << 5 | u8::from(key_phase) << 2 | (number_len - 1) as u8);
    out.extend_from_slice(to.as_bytes());
    let number_at = out.len();
    write_number(number, number_len, out);
    Draft { start, length_at: None, number_at, payload_at: out.len(), number }
}

impl Draft {
    /// The packet's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the packet begins in the buffer.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Where its frames begin.
    #[must_use]
    pub fn payload_at(&self) -> usize {
        self.payload_at
    }

    /// Whether no frame was appended yet.
    #[must_use]
    pub fn is_empty(&self, out: &[u8]) -> bool {
        out.len() == self.payload_at
    }

    /// Bytes that frames may still take, when the sealed packet must not be longer than `size`.
    #[must_use]
    pub fn room(&self, size: usize, out: &[u8]) -> usize {
        (self.start + size).saturating_sub(out.len() + TAG_LEN)
    }

    /// Puts PADDING in front of the frames until the sealed packet has `size` bytes, if it has fewer. In front, because the
    /// last frame may reach to the packet's end and would take padding for its data.
    pub fn pad(&self, size: usize, out: &mut Vec<u8>) {
        let (count, end) = (self.room(size, out), out.len());
        if count > 0 {
            out.resize(end + count, 0);
            out.copy_within(self.payload_at..end, self.payload_at + count);
            out[self.payload_at..self.payload_at + count].fill(0);
        }
    }

    /// Seals the packet: the payload, padded to the least size, and the header. Its bytes in the buffer, of which this is
    /// the number, are what goes out.
    ///
    /// # Panics
    /// If a long packet outgrows its length field, or a key its cipher: both far beyond any datagram.
    pub fn seal(&self, header_key: &dyn HeaderProtectionKey, key: &dyn PacketKey, out: &mut Vec<u8>) -> usize {
        self.pad(self.number_at - self.start + SEALED_MIN + TAG_LEN, out);
        let sealed = out.len() - self.number_at;
        if let Some(at) = self.length_at {
            let length = sealed + TAG_LEN;
            assert!(length <= LENGTH_MAX, "a long packet of {length} bytes");
            out[at..at + 2].copy_from_slice(&(0x4000 | length as u16).to_be_bytes());
        }
        let (header, payload) = out[self.start..].split_at_mut(self.payload_at - self.start);
        let tag = key.encrypt_in_place(self.number, header, payload).expect("a payload within the cipher's limit");
        out.extend_from_slice(tag.as_ref());
        let (header, sealed) = out[self.start..].split_at_mut(self.number_at - self.start);
        let (number, sealed) = sealed.split_at_mut(NUMBER_LEN_MAX);
        header_key.encrypt_in_place(&sealed[..SAMPLE_LEN], &mut header[0], number).expect("a sample of 16 bytes");
        out.len() - self.start
    }
}

/// Appends a Retry packet: an answer to an Initial packet from `to` whose destination was `original_to`. The client goes
/// on with `from` and `token`.
///
/// # Panics
/// If the token is empty.
pub fn encode_retry(to: Guuid, from: Guuid, token: &[u8], original_to: Guuid, out: &mut Vec<u8>) {
    assert!(!token.is_empty(), "a Retry packet without a token");
    let start = out.len();
    out.push(LongKind::Retry.first());
    ids(VERSION, to, from, out);
    out.extend_from_slice(token);
    let tag = token::retry_tag(original_to, &out[start..]);
    out.extend_from_slice(&tag);
}

/// Appends a Version Negotiation packet: an answer to a packet to `from` and from `to`. `entropy` fills the bits without
/// a meaning, so that nobody relies on them.
pub fn encode_version_negotiation(to: Guuid, from: Guuid, versions: &[u32], entropy: u8, out: &mut Vec<u8>) {
    out.push(LONG | entropy & !QUIC);
    ids(0, to, from, out);
    for version in versions {
        out.extend_from_slice(&version.to_be_bytes());
    }
}

/// Appends a stateless reset: the answer to a packet of `trigger` bytes with a short header that belongs to no
/// connection. It looks like such a packet, and is smaller, so that two ends that know nothing do not answer each other
/// for ever. Whether it was small enough to be answered at all.
#[must_use]
pub fn encode_reset(token: &[u8; RESET_TOKEN_LEN], random: [u8; 32], trigger: usize, out: &mut Vec<u8>) -> bool {
    //= SPEC.md#3.7
    //# A reset MUST be shorter than the packet that it answers, and have at least 37 bytes.
    if trigger <= RESET_BYTES_MIN {
        return false;
    }
    // Bytes in front of the token: as few as a packet has, or up to 11 more.
    let head = RESET_BYTES_MIN - RESET_TOKEN_LEN;
    let len = (head + usize::from(random[31]) % 11).min(trigger - 1 - RESET_TOKEN_LEN);
    out.push(random[0] & !(LONG | QUIC));
    out.extend_from_slice(&random[1..len]);
    out.extend_from_slice(token);
    true
}

/// What every long header has behind its first byte.
fn ids(version: u32, to: Guuid, from: Guuid, out: &mut Vec<u8>) {
    out.extend_from_slice(to.as_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(from.as_bytes());
}
const _: () = assert!(DESTINATION.start == 1 && VERSION_AT.start == DESTINATION.end && LONG_HEAD == 37);
