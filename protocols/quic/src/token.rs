//! What a server gives away to remember nothing itself: Retry tokens and the tokens of stateless resets.

use std::net::{IpAddr, SocketAddr};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};

use crate::{id::Id, packet::RESET_TOKEN_LEN};

/// How long a Retry token holds: a client answers within a round trip or a few.
pub const LIFE_MS: u64 = 10_000;

/// How far in the future a token's time may be: shards and restarts read the same clock, but it may be set back a little.
const SKEW_MS: u64 = 2_000;

/// Seals and opens Retry tokens; all shards have the same.
#[derive(Clone)]
pub struct TokenKey {
    current: LessSafeKey,
    previous: Option<LessSafeKey>,
}

/// What a Retry token of this server says: the client receives at its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retried {
    /// Destination of the client's very first packet.
    pub original_to: Id,
    /// Source of the Retry packet, hence the destination of what carries the token.
    pub retry_from: Id,
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

/// Told apart from what else a key may seal.
const AAD: &[u8] = b"ringshard quic retry 1";

const TAG_LEN: usize = 16;

// What is sealed: time, address, port, source of the Retry packet, original destination and its length.
const PLAIN_LEN: usize = 8 + 16 + 2 + Id::LEN + 1 + Id::MAX;

/// Bytes of a token.
pub const TOKEN_LEN: usize = NONCE_LEN + PLAIN_LEN + TAG_LEN;

impl TokenKey {
    /// From the key in force, and the one before it, whose tokens still are good. A key is good for 2^32 tokens, since
    /// their nonces are random: change it every day.
    #[must_use]
    pub fn new(current: [u8; 32], previous: Option<[u8; 32]>) -> Self {
        Self { current: cipher(&current), previous: previous.as_ref().map(cipher) }
    }

    /// A token for a Retry packet to `remote`. `nonce` is random.
    #[must_use]
    pub fn seal(&self, unix_ms: u64, remote: SocketAddr, retried: &Retried, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        debug_assert_eq!(retried.retry_from.as_slice().len(), Id::LEN, "ids of ours are all alike");
        let mut token = Vec::with_capacity(TOKEN_LEN);
        token.extend_from_slice(&nonce);
        token.extend_from_slice(&unix_ms.to_be_bytes());
        token.extend_from_slice(&address_bytes(remote.ip()));
        token.extend_from_slice(&remote.port().to_be_bytes());
        token.extend_from_slice(retried.retry_from.as_slice());
        let original = retried.original_to.as_slice();
        token.push(original.len() as u8);
        token.extend_from_slice(original);
        token.resize(NONCE_LEN + PLAIN_LEN, 0);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .current
            .seal_in_place_separate_tag(nonce, Aad::from(AAD), &mut token[NONCE_LEN..])
            .expect("a token is far shorter than the cipher's limit");
        token.extend_from_slice(tag.as_ref());
        token
    }

    /// Reads a token that arrived from `remote`.
    ///
    /// # Errors
    /// When it counts for nothing.
    pub fn open(&self, unix_ms: u64, remote: SocketAddr, token: &[u8]) -> Result<Retried, TokenError> {
        let current = unseal(&self.current, token);
        let plain = current.or_else(|| unseal(self.previous.as_ref()?, token)).ok_or(TokenError::Unknown)?;
        let mut rest = &plain[..];
        let mut take = |len: usize| {
            let (taken, after) = rest.split_at(len);
            rest = after;
            taken
        };
        let made_ms = u64::from_be_bytes(take(8).try_into().expect("8 bytes"));
        let is_from = take(16) == address_bytes(remote.ip()) && take(2) == remote.port().to_be_bytes();
        if !is_from {
            return Err(TokenError::Address);
        }
        if unix_ms.saturating_sub(made_ms) > LIFE_MS || made_ms.saturating_sub(unix_ms) > SKEW_MS {
            return Err(TokenError::Expired);
        }
        let retry_from = Id::from_slice(take(Id::LEN)).ok_or(TokenError::Unknown)?;
        let len = usize::from(take(1)[0]);
        let original_to = take(Id::MAX).get(..len).and_then(Id::from_slice).ok_or(TokenError::Unknown)?;
        Ok(Retried { original_to, retry_from })
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

/// Makes stateless reset tokens; all shards have the same.
#[derive(Clone)]
pub struct ResetKey(hmac::Key);

impl ResetKey {
    /// From a secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The token of an id of this server.
    #[must_use]
    pub fn token(&self, id: &Id) -> [u8; RESET_TOKEN_LEN] {
        let tag = hmac::sign(&self.0, id.as_slice());
        *tag.as_ref().first_chunk().expect("HMAC-SHA256 has 32 bytes")
    }
}

impl std::fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResetKey").finish_non_exhaustive()
    }
}

fn unseal(key: &LessSafeKey, token: &[u8]) -> Option<[u8; PLAIN_LEN]> {
    let (nonce, sealed) = token.split_first_chunk::<NONCE_LEN>()?;
    let mut buffer: [u8; PLAIN_LEN + TAG_LEN] = sealed.try_into().ok()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain = key.open_in_place(nonce, Aad::from(AAD), &mut buffer).ok()?;
    plain.first_chunk().copied()
}

fn cipher(secret: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).expect("32 bytes"))
}

fn address_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
    .octets()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_760_000_000_000;

    fn retried() -> Retried {
        let original_to = Id::from_slice(&[3; 11]).expect("short");
        Retried { original_to, retry_from: Id::routed(77, [4; 12]) }
    }

    fn remote() -> SocketAddr {
        "192.0.2.7:4433".parse().expect("an address")
    }

    #[test]
    fn a_token_says_what_it_was_told() {
        let token = TokenKey::new([1; 32], None).seal(NOW, remote(), &retried(), [5; 12]);
        assert_eq!(token.len(), TOKEN_LEN);
        let other_shard = TokenKey::new([1; 32], None);
        assert_eq!(other_shard.open(NOW + LIFE_MS, remote(), &token), Ok(retried()));
        let rotated = TokenKey::new([2; 32], Some([1; 32]));
        assert_eq!(rotated.open(NOW, remote(), &token), Ok(retried()));
    }

    #[test]
    fn tokens_of_another_time_address_or_key_count_for_nothing() {
        let key = TokenKey::new([1; 32], None);
        let token = key.seal(NOW, remote(), &retried(), [5; 12]);
        assert_eq!(key.open(NOW + LIFE_MS + 1, remote(), &token), Err(TokenError::Expired));
        assert_eq!(key.open(NOW - SKEW_MS - 1, remote(), &token), Err(TokenError::Expired));
        for other in ["192.0.2.7:4434", "192.0.2.8:4433", "[::1]:4433"] {
            let other = other.parse().expect("an address");
            assert_eq!(key.open(NOW, other, &token), Err(TokenError::Address));
        }
        assert_eq!(TokenKey::new([2; 32], None).open(NOW, remote(), &token), Err(TokenError::Unknown));
    }

    #[test]
    fn no_bit_of_a_token_may_change() {
        let key = TokenKey::new([1; 32], None);
        let token = key.seal(NOW, remote(), &retried(), [5; 12]);
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(NOW, remote(), &forged), Err(TokenError::Unknown));
        }
        for len in 0..token.len() {
            assert_eq!(key.open(NOW, remote(), &token[..len]), Err(TokenError::Unknown));
        }
    }
}
