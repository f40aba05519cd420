//! Connection ids: their first four bytes route a datagram to its shard, whoever chose them.

use std::fmt;

/// A connection id of either side, up to 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id {
    len: u8,
    bytes: [u8; Id::MAX],
}

impl Id {
    /// Bytes of an id of ours. Short headers do not say how long theirs is, so all of ours are alike.
    pub const LEN: usize = 16;

    /// Bytes of the longest id (RFC 9000, section 17.2).
    pub const MAX: usize = 20;

    /// Bytes of the shortest id that a client may begin with (RFC 9000, section 7.2).
    pub const FIRST_MIN: usize = 8;

    /// An id as it stands on the wire; `None`: too long.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut id = Self { len: u8::try_from(bytes.len()).ok()?, bytes: [0; Self::MAX] };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(id)
    }

    /// An id of ours from random bytes, with the word that routes to it in front.
    #[must_use]
    pub fn routed(word: u32, random: [u8; 12]) -> Self {
        let mut id = Self { len: Self::LEN as u8, bytes: [0; Self::MAX] };
        id.bytes[..4].copy_from_slice(&word.to_be_bytes());
        id.bytes[4..Self::LEN].copy_from_slice(&random);
        id
    }

    /// As it stands on the wire.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The routing word; `None`: the id is too short to route, and the kernel's hash decides.
    #[must_use]
    pub fn word(&self) -> Option<u32> {
        let word = self.as_slice().first_chunk()?;
        (self.as_slice().len() >= Self::FIRST_MIN).then(|| u32::from_be_bytes(*word))
    }

    pub(crate) fn quiche(&self) -> quiche::ConnectionId<'_> {
        quiche::ConnectionId::from_ref(self.as_slice())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which shard owns an id: the routing word times a secret odd number, its high half modulo the number of shards. The
/// same arithmetic as the kernel's filter in front of the shards' sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Router {
    multiplier: u32,
    inverse: u32,
    shards: u16,
    shard: u16,
}

impl fmt::Debug for Router {
    // The multiplier is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("shards", &self.shards).field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Router {
    /// The view of `shard`, one of `shards`. `multiplier` is secret, so that nobody aims at one shard.
    ///
    /// # Panics
    /// If `shard` is not below `shards`, or `multiplier` is even.
    #[must_use]
    pub fn new(multiplier: u32, shards: u16, shard: u16) -> Self {
        assert!(shard < shards, "no such shard");
        assert!(multiplier % 2 == 1, "an even multiplier loses bits");
        // Newton's iteration: each step doubles the bits that are right.
        let inverse = (0..5)
            .fold(multiplier, |inverse, _| inverse.wrapping_mul(2u32.wrapping_sub(multiplier.wrapping_mul(inverse))));
        Self { multiplier, inverse, shards, shard }
    }

    /// For a client, or a server of one shard: every id is its own.
    #[must_use]
    pub fn single() -> Self {
        Self::new(1, 1, 0)
    }

    /// The shard that a word leads to.
    #[must_use]
    pub fn shard_of(&self, word: u32) -> u16 {
        ((word.wrapping_mul(self.multiplier) >> 16) % u32::from(self.shards)) as u16
    }

    /// The other shard that an id leads to; `None`: it is ours, or leads nowhere.
    #[must_use]
    pub fn foreign(&self, id: &Id) -> Option<u16> {
        id.word().map(|word| self.shard_of(word)).filter(|shard| *shard != self.shard)
    }

    /// A word that leads to this shard, made from random bits.
    #[must_use]
    pub fn word(&self, entropy: u32) -> u32 {
        let (high, count) = (entropy >> 16, u32::from(self.shards));
        let mut fitting = high - high % count + u32::from(self.shard);
        if fitting > 0xFFFF {
            fitting -= count;
        }
        (fitting << 16 | entropy & 0xFFFF).wrapping_mul(self.inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_words_lead_home() {
        for shards in [1, 2, 3, 7, 64, 255, 256] {
            for shard in 0..shards {
                let router = Router::new(0x9E37_79B1, shards, shard);
                for entropy in [0, 1, 0xFFFF, 0xFFFF_0000, u32::MAX, 0x1234_5678] {
                    let id = Id::routed(router.word(entropy), [7; 12]);
                    assert_eq!(router.shard_of(id.word().expect("16 bytes")), shard);
                    assert_eq!(router.foreign(&id), None);
                }
            }
        }
    }

    #[test]
    fn ids_too_short_to_route_lead_nowhere() {
        let id = Id::from_slice(&[0xFF; 7]).expect("short");
        assert_eq!((id.word(), Router::new(1, 2, 0).foreign(&id)), (None, None));
        assert_eq!(Id::from_slice(&[0; 21]), None);
        assert_eq!(Id::from_slice(&[]).expect("empty").as_slice(), b"");
    }
}
