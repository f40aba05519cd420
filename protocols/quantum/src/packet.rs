//! Packets: the headers in front of sealed frames (SPEC.md, section 3). Reading here needs no key and judges nothing that
//! only a key can vouch for.

mod draft;
mod number;
mod protection;
#[cfg(test)]
mod tests;

pub use draft::{
    Draft, LENGTH_MAX, LongKind, RESET_BYTES_MIN, encode_long, encode_reset, encode_retry, encode_short,
    encode_version_negotiation,
};
pub use number::{NUMBER_LEN_MAX, Space, expand, number_len};
pub use protection::{OpenError, Unprotected, open, unprotect};

use std::ops::Range;

use crate::{guuid::Guuid, varint};

/// The version that is spoken here: "QT", 1.
pub const VERSION: u32 = 0x5154_0001;

/// Bytes of a datagram with an Initial packet at least, in both directions: it proves that the path carries them, and
/// keeps an answer from being an amplification (RFC 9000, section 14.1).
pub const INITIAL_BYTES_MIN: usize = 1200;

/// Bytes that sealing adds behind a payload.
pub const TAG_LEN: usize = 16;

/// Where the destination id stands in every packet of every version, both directions.
pub const DESTINATION: Range<usize> = 1..1 + Guuid::LEN;

/// Bytes of a short header in front of the packet number.
pub const SHORT_HEAD: usize = DESTINATION.end;

const VERSION_AT: Range<usize> = DESTINATION.end..DESTINATION.end + 4;
const SOURCE: Range<usize> = VERSION_AT.end..VERSION_AT.end + Guuid::LEN;

/// Bytes of a long header that all versions have.
pub const LONG_HEAD: usize = SOURCE.end;

/// The sample of the header's protection is taken as if the packet number had 4 bytes (RFC 9001, section 5.4.2).
pub(crate) const SAMPLE_LEN: usize = 16;

/// What a packet number and its sealed payload have at least, for a sample to fit.
const SEALED_MIN: usize = NUMBER_LEN_MAX + SAMPLE_LEN;

const LONG: u8 = 0x80;
/// QUIC sets this bit in every packet (RFC 9000, section 17), Quantum in none.
const QUIC: u8 = 0x40;

/// One packet of a datagram.
#[derive(Debug)]
pub struct Packet<'a> {
    /// What can be read without a key.
    pub header: Header,
    /// The packet, and nothing of what follows in the datagram.
    pub bytes: &'a mut [u8],
}

/// What can be read without a key. Ranges and offsets are within the packet's bytes and were checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Header {
    /// The first flight.
    Initial {
        /// Destination.
        to: Guuid,
        /// Source.
        from: Guuid,
        /// Where the token stands; empty when there is none.
        token: Range<usize>,
        /// Where the packet number begins.
        number_at: usize,
    },
    /// Data before the handshake is done.
    ZeroRtt {
        /// Destination.
        to: Guuid,
        /// Source.
        from: Guuid,
        /// Where the packet number begins.
        number_at: usize,
    },
    /// The rest of the handshake.
    Handshake {
        /// Destination.
        to: Guuid,
        /// Source.
        from: Guuid,
        /// Where the packet number begins.
        number_at: usize,
    },
    /// The server wants its token back before it does anything.
    Retry {
        /// Destination.
        to: Guuid,
        /// Source: the id to go on with.
        from: Guuid,
        /// Where the token stands; never empty.
        token: Range<usize>,
        /// Vouches for the packet, see [`crate::token::retry_tag`].
        tag: [u8; TAG_LEN],
    },
    /// The server does not speak the client's version.
    VersionNegotiation {
        /// Destination.
        to: Guuid,
        /// Source.
        from: Guuid,
        /// Where its versions stand, 4 bytes each; never empty.
        versions: Range<usize>,
    },
    /// A long header of a version that is not spoken here.
    Unsupported {
        /// That version.
        version: u32,
        /// Destination.
        to: Guuid,
        /// Source.
        from: Guuid,
    },
    /// All that follows the handshake.
    Short {
        /// Destination.
        to: Guuid,
        /// Where the packet number begins.
        number_at: usize,
    },
}

/// Why bytes are no packet of ours. Such bytes are dropped and counted, nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum ParseError {
    /// They end before the header does, or before a sealed payload could.
    #[error("packet too short")]
    Short,
    /// Bit 6 is set: QUIC, or something else.
    #[error("not a packet of Quantum")]
    Foreign,
    /// A length leads beyond the datagram.
    #[error("length beyond the datagram")]
    Length,
    /// A Version Negotiation packet without versions, or with a part of one.
    #[error("malformed list of versions")]
    Versions,
}

/// The destination id of a datagram, by which it is steered to its shard.
#[must_use]
pub fn destination(datagram: &[u8]) -> Option<Guuid> {
    guuid(datagram, DESTINATION)
}

/// What would be the token if the datagram were a stateless reset: its last 16 bytes.
#[must_use]
pub fn reset_token(datagram: &[u8]) -> Option<[u8; crate::frame::RESET_TOKEN_LEN]> {
    let is_short = datagram.first()? & (LONG | QUIC) == 0;
    let token = datagram.last_chunk().filter(|_| is_short && datagram.len() >= RESET_BYTES_MIN)?;
    Some(*token)
}

/// Takes the first packet off a datagram; what is behind it comes back too. Retry, Version Negotiation, short headers
/// and other versions reach to the datagram's end.
///
/// # Errors
/// When it is none of ours, or cut. The rest of the datagram is worth nothing then.
pub fn parse(datagram: &mut [u8]) -> Result<(Packet<'_>, &mut [u8]), ParseError> {
    let first = *datagram.first().ok_or(ParseError::Short)?;
    if first & QUIC != 0 {
        return Err(ParseError::Foreign);
    }
    let (header, end) = if first & LONG == 0 { short(datagram)? } else { long(first, datagram)? };
    let (bytes, rest) = datagram.split_at_mut(end);
    Ok((Packet { header, bytes }, rest))
}

impl Packet<'_> {
    /// The token of an Initial or Retry packet.
    #[must_use]
    pub fn token(&self) -> &[u8] {
        match &self.header {
            Header::Initial { token, .. } | Header::Retry { token, .. } => &self.bytes[token.clone()],
            _ => &[],
        }
    }

    /// The versions in a Version Negotiation packet.
    pub fn versions(&self) -> impl Iterator<Item = u32> + '_ {
        let range =
            if let Header::VersionNegotiation { versions, .. } = &self.header { versions.clone() } else { 0..0 };
        self.bytes[range].as_chunks().0.iter().map(|version| u32::from_be_bytes(*version))
    }
}

impl Header {
    /// The destination.
    #[must_use]
    pub fn to(&self) -> Guuid {
        match self {
            Header::Initial { to, .. }
            | Header::ZeroRtt { to, .. }
            | Header::Handshake { to, .. }
            | Header::Retry { to, .. }
            | Header::VersionNegotiation { to, .. }
            | Header::Unsupported { to, .. }
            | Header::Short { to, .. } => *to,
        }
    }

    /// The source, which a short header has not.
    #[must_use]
    pub fn from(&self) -> Option<Guuid> {
        match self {
            Header::Initial { from, .. }
            | Header::ZeroRtt { from, .. }
            | Header::Handshake { from, .. }
            | Header::Retry { from, .. }
            | Header::VersionNegotiation { from, .. }
            | Header::Unsupported { from, .. } => Some(*from),
            Header::Short { .. } => None,
        }
    }

    /// Whose numbers the packet counts by, and where its number begins. `None` when it has no number.
    #[must_use]
    pub fn number(&self) -> Option<(Space, usize)> {
        match self {
            Header::Initial { number_at, .. } => Some((Space::Initial, *number_at)),
            Header::Handshake { number_at, .. } => Some((Space::Handshake, *number_at)),
            Header::ZeroRtt { number_at, .. } | Header::Short { number_at, .. } => {
                Some((Space::Application, *number_at))
            }
            Header::Retry { .. } | Header::VersionNegotiation { .. } | Header::Unsupported { .. } => None,
        }
    }
}

fn short(datagram: &[u8]) -> Result<(Header, usize), ParseError> {
    if datagram.len() < SHORT_HEAD + SEALED_MIN {
        return Err(ParseError::Short);
    }
    let to = destination(datagram).ok_or(ParseError::Short)?;
    Ok((Header::Short { to, number_at: SHORT_HEAD }, datagram.len()))
}

fn long(first: u8, datagram: &[u8]) -> Result<(Header, usize), ParseError> {
    let (Some(to), Some(from)) = (destination(datagram), guuid(datagram, SOURCE)) else {
        return Err(ParseError::Short);
    };
    let version = datagram[VERSION_AT].iter().fold(0, |version, byte| version << 8 | u32::from(*byte));
    let all = datagram.len();
    match version {
        0 if all == LONG_HEAD || !(all - LONG_HEAD).is_multiple_of(4) => Err(ParseError::Versions),
        0 => Ok((Header::VersionNegotiation { to, from, versions: LONG_HEAD..all }, all)),
        VERSION => numbered(LongKind::of(first), to, from, datagram),
        _ => Ok((Header::Unsupported { version, to, from }, all)),
    }
}

fn numbered(kind: LongKind, to: Guuid, from: Guuid, datagram: &[u8]) -> Result<(Header, usize), ParseError> {
    if kind == LongKind::Retry {
        return retry(to, from, datagram);
    }
    let mut rest = &datagram[LONG_HEAD..];
    let mut token = LONG_HEAD..LONG_HEAD;
    if kind == LongKind::Initial {
        let len = length(&mut rest)?;
        token = datagram.len() - rest.len()..datagram.len() - rest.len() + len;
        rest = &rest[len..];
    }
    let len = length(&mut rest)?;
    if len < SEALED_MIN {
        return Err(ParseError::Short);
    }
    let number_at = datagram.len() - rest.len();
    let header = match kind {
        LongKind::Initial => Header::Initial { to, from, token, number_at },
        LongKind::ZeroRtt => Header::ZeroRtt { to, from, number_at },
        LongKind::Handshake | LongKind::Retry => Header::Handshake { to, from, number_at },
    };
    Ok((header, number_at + len))
}

fn retry(to: Guuid, from: Guuid, datagram: &[u8]) -> Result<(Header, usize), ParseError> {
    let Some((token, tag)) = datagram[LONG_HEAD..].split_last_chunk().filter(|(token, _)| !token.is_empty()) else {
        return Err(ParseError::Short);
    };
    Ok((Header::Retry { to, from, token: LONG_HEAD..LONG_HEAD + token.len(), tag: *tag }, datagram.len()))
}

/// Takes a length off the front, of something that must be there.
fn length(rest: &mut &[u8]) -> Result<usize, ParseError> {
    let len = varint::read(rest).ok_or(ParseError::Short)?;
    usize::try_from(len).ok().filter(|len| *len <= rest.len()).ok_or(ParseError::Length)
}

fn guuid(datagram: &[u8], at: Range<usize>) -> Option<Guuid> {
    datagram.get(at).and_then(|id| id.try_into().ok()).map(Guuid::from_bytes)
}
