//! What can be known of a datagram without keys: the part of its head that is the same in all versions, and what is
//! answered without a connection.
//!
//! ```text
//! long   1LTTxxxx | version (4) | length | destination (0..20) | length | source (0..20) | ...
//! short  01xxxxxx | destination (16) | ...
//! ```

use crate::id::Id;

/// The version that is spoken.
pub const VERSION: u32 = 1;

/// Payload of the smallest datagram with a client's first packet (RFC 9000, section 14.1).
pub const INITIAL_MIN: usize = 1200;

/// Bytes of the smallest stateless reset: 5 that look like a packet and the token (RFC 9000, section 10.3).
pub const RESET_MIN: usize = 5 + RESET_TOKEN_LEN;

/// Bytes of our stateless resets, at most: what a small acknowledgement has.
pub const RESET_MAX: usize = 42;

/// Bytes of a stateless reset token.
pub const RESET_TOKEN_LEN: usize = 16;

const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
const KIND: u8 = 0x30;

/// Where a datagram wants to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head<'a> {
    /// A packet of the handshake.
    Long {
        /// What it is, in version 1.
        kind: Kind,
        /// Its version; 0 is a negotiation.
        version: u32,
        /// The destination.
        to: &'a [u8],
        /// The source.
        from: &'a [u8],
        /// What follows.
        rest: &'a [u8],
    },
    /// A packet after the handshake, or a stateless reset.
    Short {
        /// The destination, if one of ours wrote it.
        to: Id,
    },
}

/// Kinds of long packets in version 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The first ones of both sides.
    Initial,
    /// With what a client sends along.
    ZeroRtt,
    /// With certificates.
    Handshake,
    /// An address is to be proven.
    Retry,
}

/// Why a datagram is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    /// It ends within its head.
    #[error("too short")]
    Short,
    /// It breaks version 1.
    #[error("not a packet of QUIC version 1")]
    Malformed,
}

impl<'a> Head<'a> {
    /// Reads the head of a datagram's first packet.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        let (first, rest) = datagram.split_first().ok_or(ParseError::Short)?;
        if first & LONG == 0 {
            let to = rest.get(..Id::LEN).ok_or(ParseError::Short)?;
            let to = Id::from_slice(to).ok_or(ParseError::Short)?;
            return if first & FIXED == 0 { Err(ParseError::Malformed) } else { Ok(Self::Short { to }) };
        }
        let (version, rest) = rest.split_first_chunk().ok_or(ParseError::Short)?;
        let version = u32::from_be_bytes(*version);
        let (to, rest) = prefixed(rest).ok_or(ParseError::Short)?;
        let (from, rest) = prefixed(rest).ok_or(ParseError::Short)?;
        if version == VERSION && (first & FIXED == 0 || to.len() > Id::MAX || from.len() > Id::MAX) {
            return Err(ParseError::Malformed);
        }
        let kind = match (first & KIND) >> 4 {
            0 => Kind::Initial,
            1 => Kind::ZeroRtt,
            2 => Kind::Handshake,
            _ => Kind::Retry,
        };
        Ok(Self::Long { kind, version, to, from, rest })
    }
}

/// The token of an Initial packet, given what follows its source id.
#[must_use]
pub fn initial_token(rest: &[u8]) -> Option<&[u8]> {
    let first = usize::from(*rest.first()?);
    let (len, rest) = match first >> 6 {
        0 => (first, rest.get(1..)?),
        1 => ((first & 0x3F) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        // No datagram holds a token of 16 KiB or more.
        _ => return None,
    };
    rest.get(..len)
}

/// The token at the end of what may be a stateless reset.
#[must_use]
pub fn reset_token(datagram: &[u8]) -> Option<[u8; RESET_TOKEN_LEN]> {
    let is_short = datagram.first().is_some_and(|first| first & LONG == 0);
    if is_short && datagram.len() >= RESET_MIN { datagram.last_chunk().copied() } else { None }
}

/// A stateless reset that answers a datagram of `len` bytes; `None`: that is too small for a smaller answer. Smaller, so
/// that two endpoints without state do not answer each other for ever.
#[must_use]
pub fn reset(token: &[u8; RESET_TOKEN_LEN], mut random: [u8; RESET_MAX], len: usize) -> Option<Vec<u8>> {
    let len = len.checked_sub(1)?.min(RESET_MAX);
    if len < RESET_MIN {
        return None;
    }
    random[0] = random[0] & !(LONG | FIXED) | FIXED;
    random[len - RESET_TOKEN_LEN..len].copy_from_slice(token);
    Some(random[..len].to_vec())
}

fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reset_is_smaller_than_what_it_answers_and_carries_its_token() {
        for len in 0..100 {
            let answer = reset(&[9; 16], [0xFF; RESET_MAX], len);
            assert_eq!(answer.is_some(), len > RESET_MIN);
            let Some(answer) = answer else { continue };
            assert!(answer.len() < len && answer[0] & 0xC0 == 0x40);
            assert_eq!(reset_token(&answer), Some([9; 16]));
        }
    }

    #[test]
    fn long_heads_of_other_versions_may_have_long_ids() {
        let mut bytes = vec![0x80, 0xFA, 0xCE, 0xB0, 0x0C, 30];
        bytes.extend([1; 30]);
        bytes.push(0);
        let Ok(Head::Long { version, to, from, .. }) = Head::parse(&bytes) else { panic!("not a long head") };
        assert_eq!((version, to.len(), from.len()), (0xFACE_B00C, 30, 0));
        bytes[1..5].copy_from_slice(&VERSION.to_be_bytes());
        assert_eq!(Head::parse(&bytes), Err(ParseError::Malformed));
    }

    #[test]
    fn tokens_have_a_length_in_front() {
        assert_eq!(initial_token(&[0, 1, 2]), Some(&[][..]));
        assert_eq!(initial_token(&[2, 1, 2]), Some(&[1, 2][..]));
        assert_eq!(initial_token(&[0x40, 2, 1, 2]), Some(&[1, 2][..]));
        assert_eq!((initial_token(&[3, 1, 2]), initial_token(&[0x80]), initial_token(&[])), (None, None, None));
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Head::Long { rest, .. }) = Head::parse(&bytes) {
                let _ = initial_token(rest);
            }
            let _ = reset_token(&bytes);
        }
    }
}
