//! Removing the two protections of a packet: the header's, then the payload's (RFC 9001, section 5).

use std::ops::Range;

use rustls::quic::{HeaderProtectionKey, PacketKey};

use crate::{
    error::{Code, TransportError},
    packet::{LONG, NUMBER_LEN_MAX, SAMPLE_LEN, expand},
};

/// A packet whose header is bare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unprotected {
    /// Its number. Nothing vouches for it before the packet is opened.
    pub number: u64,
    /// The first byte.
    pub first: u8,
    /// Where the sealed payload begins.
    pub payload_at: usize,
}

/// Why a packet does not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The key does not fit: a forgery, or damage. It is dropped, and counts against the key's integrity limit.
    #[error("packet does not authenticate")]
    Forged,
    /// The peer itself sealed what must not be.
    #[error(transparent)]
    Violation(#[from] TransportError),
}

const RESERVED: TransportError = TransportError::new(Code::ProtocolViolation, "reserved bits are set");
const EMPTY: TransportError = TransportError::new(Code::ProtocolViolation, "packet without a frame");

impl Unprotected {
    /// Which generation of keys sealed a packet with a short header.
    #[must_use]
    pub fn key_phase(&self) -> bool {
        self.first & 0x04 != 0
    }

    /// The bits that must be 0: two in either form.
    fn reserved(&self) -> u8 {
        self.first & if self.first & LONG != 0 { 0x0C } else { 0x18 }
    }
}

/// Bares the header of one packet, whose number begins at `number_at`. `expected` is one more than the largest number
/// that was received in the packet's space. `None`: too short, and left as it was.
pub fn unprotect(
    bytes: &mut [u8],
    number_at: usize,
    key: &dyn HeaderProtectionKey,
    expected: u64,
) -> Option<Unprotected> {
    let (head, sealed) = bytes.split_at_mut_checked(number_at)?;
    let (number, sealed) = sealed.split_at_mut_checked(NUMBER_LEN_MAX)?;
    let (first, sample) = (head.first_mut()?, sealed.get(..SAMPLE_LEN)?);
    key.decrypt_in_place(sample, first, number).ok()?;
    let len = usize::from(*first & 0x03) + 1;
    let truncated = number[..len].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some(Unprotected { number: expand(truncated, len, expected), first: *first, payload_at: number_at + len })
}

/// Opens the payload of a packet with a bare header, in place; where its frames are.
///
/// # Errors
/// When it does not authenticate, or its reserved bits are not 0, or it is empty.
pub fn open(bytes: &mut [u8], packet: &Unprotected, key: &dyn PacketKey) -> Result<Range<usize>, OpenError> {
    let (header, payload) = bytes.split_at_mut_checked(packet.payload_at).ok_or(OpenError::Forged)?;
    let len = key.decrypt_in_place(packet.number, header, payload).map_err(|_| OpenError::Forged)?.len();
    //= SPEC.md#3
    //# A receiver checks them after the packet has authenticated; if one is set, it is a PROTOCOL_VIOLATION.
    if packet.reserved() != 0 {
        return Err(RESERVED.into());
    }
    if len == 0 {
        return Err(EMPTY.into());
    }
    Ok(packet.payload_at..packet.payload_at + len)
}
