//! What a server gives away to remember nothing itself: address tokens and the tags of Retry packets and resets.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ring::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};

use crate::{frame::RESET_TOKEN_LEN, guuid::Guuid, packet::TAG_LEN};

/// How long a Retry token holds: a client answers within a round trip or a few.
pub const RETRY_LIFE_MS: u64 = 10_000;

/// How long an address token holds.
pub const ADDRESS_LIFE_MS: u64 = 24 * 60 * 60 * 1000;

/// How far in the future a token's time may be: shards and restarts read the same clock, but it may be set back a little.
const SKEW_MS: u64 = 2_000;

/// Seals and opens tokens; all shards have the same.
#[derive(Clone)]
pub struct TokenKey {
    current: LessSafeKey,
    previous: Option<LessSafeKey>,
}

/// A token that this server made for this address, not long ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    /// From a Retry packet.
    Retry {
        /// Destination of the client's very first packet.
        original_to: Guuid,
        /// Source of the Retry packet, hence the destination of what carries the token.
        retry_from: Guuid,
    },
    /// From a NEW_TOKEN frame of an earlier connection.
    Address,
}

/// Why a token counts for nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum TokenError {
    /// Not made here, or too long ago for the key to be known.
    #[error("unknown token")]
    Unknown,
    /// Made for another address.
    #[error("token of another address")]
    Address,
    /// Made too long ago.
    #[error("token has expired")]
    Expired,
}

/// Told apart by what a token is for, and by its layout.
const AAD: &[u8] = b"quantum/1 token";

const RETRY: u8 = 0;
const ADDRESS: u8 = 1;

// What is sealed: kind, time, address, and in Retry tokens port, original destination and source of the Retry packet.
const HEAD_LEN: usize = 1 + 8 + 16;
const RETRY_LEN: usize = HEAD_LEN + 2 + 2 * Guuid::LEN;

/// Bytes of a token of ours, at most.
pub const TOKEN_BYTES_MAX: usize = NONCE_LEN + RETRY_LEN + TAG_LEN;

impl TokenKey {
    /// From the key in force, and the one before it, whose tokens still are good. A key is good for 2^32 tokens, since
    /// their nonces are random: change it every day.
    #[must_use]
    pub fn new(current: [u8; 32], previous: Option<[u8; 32]>) -> Self {
        Self { current: cipher(&current), previous: previous.as_ref().map(cipher) }
    }

    /// A token for a Retry packet to `remote` with the source `retry_from`, an answer to a packet to `original_to`.
    /// `nonce` is random.
    #[must_use]
    pub fn retry(
        &self,
        unix_ms: u64,
        remote: SocketAddr,
        original_to: Guuid,
        retry_from: Guuid,
        nonce: [u8; NONCE_LEN],
    ) -> Vec<u8> {
        let mut token = head(RETRY, unix_ms, remote.ip(), nonce);
        token.extend_from_slice(&remote.port().to_be_bytes());
        token.extend_from_slice(original_to.as_bytes());
        token.extend_from_slice(retry_from.as_bytes());
        self.seal(token, nonce)
    }

    /// A token for a later connection from `ip`. `nonce` is random.
    #[must_use]
    pub fn address(&self, unix_ms: u64, ip: IpAddr, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        self.seal(head(ADDRESS, unix_ms, ip, nonce), nonce)
    }

    /// Reads a token that arrived from `remote`.
    ///
    /// # Errors
    /// When it counts for nothing. That is no violation: the client may have it from before a restart.
    pub fn open(&self, unix_ms: u64, remote: SocketAddr, token: &[u8]) -> Result<Token, TokenError> {
        let current = unseal(&self.current, token);
        let opened = current.or_else(|| unseal(self.previous.as_ref()?, token)).ok_or(TokenError::Unknown)?;
        let (token, life) = opened.token(remote)?;
        let (age, ahead) = (unix_ms.saturating_sub(opened.unix_ms), opened.unix_ms.saturating_sub(unix_ms));
        let is_fresh = age <= life && ahead <= SKEW_MS;
        if is_fresh { Ok(token) } else { Err(TokenError::Expired) }
    }

    fn seal(&self, mut token: Vec<u8>, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let tag = self
            .current
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(AAD), &mut token[NONCE_LEN..])
            .expect("a token is far shorter than the cipher's limit");
        token.extend_from_slice(tag.as_ref());
        token
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

/// The tag at the end of a Retry packet, which shows that its sender saw the client's first packet (RFC 9001, section
/// 5.8). `packet` is the packet without the tag.
#[must_use]
pub fn retry_tag(original_to: Guuid, packet: &[u8]) -> [u8; TAG_LEN] {
    // The key is known to all. SHA-256 of "Quantum version 1 Retry", its first 16 bytes, and the next 12.
    const KEY: [u8; 16] =
        [0xBF, 0xD9, 0xA9, 0x5D, 0xA5, 0xF4, 0xE7, 0xAC, 0x5E, 0x6E, 0x8A, 0x3D, 0x4F, 0x00, 0xCE, 0xD6];
    const NONCE: [u8; NONCE_LEN] = [0xE6, 0x63, 0x6E, 0x35, 0xF2, 0xF6, 0x9E, 0xAD, 0x9D, 0xBF, 0x0D, 0xD8];
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &KEY).expect("16 bytes"));
    let mut pseudo = Vec::with_capacity(Guuid::LEN + packet.len());
    pseudo.extend_from_slice(original_to.as_bytes());
    pseudo.extend_from_slice(packet);
    let nonce = Nonce::assume_unique_for_key(NONCE);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(pseudo), &mut []).expect("nothing is sealed");
    tag.as_ref().try_into().expect("a tag has 16 bytes")
}

/// The stateless reset token of an id of this server.
#[must_use]
pub fn reset_token(key: &[u8; 32], id: Guuid) -> [u8; RESET_TOKEN_LEN] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), id.as_bytes());
    *tag.as_ref().first_chunk().expect("HMAC-SHA256 has 32 bytes")
}

/// An opened token; what is only in a Retry token is 0 in another.
struct Opened {
    kind: u8,
    unix_ms: u64,
    ip: [u8; 16],
    port: [u8; 2],
    original_to: Guuid,
    retry_from: Guuid,
}

impl Opened {
    fn token(&self, remote: SocketAddr) -> Result<(Token, u64), TokenError> {
        let is_retry = self.kind == RETRY;
        if self.ip != address_bytes(remote.ip()) || (is_retry && self.port != remote.port().to_be_bytes()) {
            return Err(TokenError::Address);
        }
        Ok(if is_retry {
            (Token::Retry { original_to: self.original_to, retry_from: self.retry_from }, RETRY_LIFE_MS)
        } else {
            (Token::Address, ADDRESS_LIFE_MS)
        })
    }
}

fn unseal(key: &LessSafeKey, token: &[u8]) -> Option<Opened> {
    let (nonce, sealed) = token.split_first_chunk::<NONCE_LEN>()?;
    let mut buffer = [0; RETRY_LEN + TAG_LEN];
    let buffer = buffer.get_mut(..sealed.len())?;
    buffer.copy_from_slice(sealed);
    let mut rest = &*key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(AAD), buffer).ok()?;
    let [kind] = take(&mut rest)?;
    let (unix_ms, ip) = (u64::from_be_bytes(take(&mut rest)?), take(&mut rest)?);
    let zero = Guuid::default();
    let mut opened = Opened { kind, unix_ms, ip, port: [0; 2], original_to: zero, retry_from: zero };
    if kind == RETRY {
        opened.port = take(&mut rest)?;
        opened.original_to = Guuid::from_bytes(take(&mut rest)?);
        opened.retry_from = Guuid::from_bytes(take(&mut rest)?);
    }
    (rest.is_empty() && kind <= ADDRESS).then_some(opened)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn head(kind: u8, unix_ms: u64, ip: IpAddr, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
    let mut token = Vec::with_capacity(TOKEN_BYTES_MAX);
    token.extend_from_slice(&nonce);
    token.push(kind);
    token.extend_from_slice(&unix_ms.to_be_bytes());
    token.extend_from_slice(&address_bytes(ip));
    token
}

/// One form for an address, whichever family of socket it came by.
fn address_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => Ipv6Addr::octets(&ip),
    }
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn remote() -> SocketAddr {
        "192.0.2.7:4433".parse().unwrap()
    }

    fn id(byte: u8) -> Guuid {
        Guuid::from_bytes([byte; 16])
    }

    fn retry(key: &TokenKey) -> Vec<u8> {
        key.retry(NOW, remote(), id(1), id(2), [3; 12])
    }

    //= SPEC.md#7.2
    //= type=test
    //# A Retry token MUST be taken for 10 s from the same address and port only
    #[test]
    fn a_retry_token_is_good_for_its_address_and_ten_seconds() {
        let key = TokenKey::new([1; 32], None);
        let (token, told) = (retry(&key), Token::Retry { original_to: id(1), retry_from: id(2) });
        assert_eq!(token.len(), TOKEN_BYTES_MAX);
        assert_eq!(key.open(NOW, remote(), &token), Ok(told));
        assert_eq!(key.open(NOW + RETRY_LIFE_MS, remote(), &token), Ok(told));
        assert_eq!(key.open(NOW + RETRY_LIFE_MS + 1, remote(), &token), Err(TokenError::Expired));
        assert_eq!(key.open(NOW - SKEW_MS, remote(), &token), Ok(told));
        assert_eq!(key.open(NOW - SKEW_MS - 1, remote(), &token), Err(TokenError::Expired));
        assert_eq!(key.open(0, remote(), &token), Err(TokenError::Expired));
        assert_eq!(key.open(u64::MAX, remote(), &token), Err(TokenError::Expired));
        let mapped = "[::ffff:192.0.2.7]:4433".parse().unwrap();
        assert_eq!(key.open(NOW, mapped, &token), Ok(told), "a socket of both families shows it so");
        for other in ["192.0.2.7:4434", "192.0.2.8:4433", "[2001:db8::7]:4433"] {
            assert_eq!(key.open(NOW, other.parse().unwrap(), &token), Err(TokenError::Address));
        }
    }

    #[test]
    fn an_address_token_is_good_from_any_port_for_a_day() {
        let key = TokenKey::new([1; 32], None);
        let token = key.address(NOW, "2001:db8::7".parse().unwrap(), [3; 12]);
        let remote = "[2001:db8::7]:9".parse().unwrap();
        assert_eq!(key.open(NOW + ADDRESS_LIFE_MS, remote, &token), Ok(Token::Address));
        assert_eq!(key.open(NOW + ADDRESS_LIFE_MS + 1, remote, &token), Err(TokenError::Expired));
        assert_eq!(key.open(NOW, "[2001:db8::8]:9".parse().unwrap(), &token), Err(TokenError::Address));
    }

    //= SPEC.md#7.2
    //= type=test
    //# MUST take the tokens of the key before.
    #[test]
    fn keys_rotate_once() {
        let (first, second) = (TokenKey::new([1; 32], None), TokenKey::new([2; 32], Some([1; 32])));
        let third = TokenKey::new([3; 32], Some([2; 32]));
        let token = retry(&first);
        assert!(first.open(NOW, remote(), &token).is_ok() && second.open(NOW, remote(), &token).is_ok());
        assert_eq!(third.open(NOW, remote(), &token), Err(TokenError::Unknown));
        assert_ne!(retry(&second), token, "the current key seals");
        assert_eq!(first.open(NOW, remote(), &retry(&second)), Err(TokenError::Unknown));
        assert!(!format!("{second:?}").contains('2'), "a key is not to be seen in logs");
    }

    #[test]
    fn reset_tokens_are_secrets_of_ids() {
        let token = reset_token(&[1; 32], id(1));
        assert_eq!(token, reset_token(&[1; 32], id(1)));
        assert!(token != reset_token(&[2; 32], id(1)) && token != reset_token(&[1; 32], id(2)));
    }

    #[test]
    fn a_retry_tag_depends_on_all_it_covers() {
        let tag = retry_tag(id(1), b"packet");
        assert!(tag != retry_tag(id(2), b"packet") && tag != retry_tag(id(1), b"packed"));
    }

    proptest! {
        #[test]
        fn a_damaged_token_is_unknown(at in 0..TOKEN_BYTES_MAX, bit in 0..8u8, end in 0..TOKEN_BYTES_MAX) {
            let key = TokenKey::new([1; 32], Some([2; 32]));
            let mut token = retry(&key);
            prop_assert_eq!(key.open(NOW, remote(), &token[..end]), Err(TokenError::Unknown));
            token[at] ^= 1 << bit;
            prop_assert_eq!(key.open(NOW, remote(), &token), Err(TokenError::Unknown));
        }

        #[test]
        fn any_bytes_are_an_unknown_token(token in vec(any::<u8>(), 0..200)) {
            let key = TokenKey::new([1; 32], Some([2; 32]));
            prop_assert_eq!(key.open(NOW, remote(), &token), Err(TokenError::Unknown));
        }
    }
}
