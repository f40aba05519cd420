//! Connection ids: 16-byte UUIDs of version 7 (RFC 9562) whose last four bytes route a datagram to its shard.

use std::fmt;

/// A connection id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guuid([u8; 16]);

impl Guuid {
    /// Bytes of an id.
    pub const LEN: usize = 16;

    /// Where the routing word begins in an id.
    pub const WORD: usize = 12;

    /// An id made at `unix_ms` from random bits; the last four of `random` become its routing word.
    #[must_use]
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&random);
        id[6] = id[6] & 0x0F | 0x70;
        id[8] = id[8] & 0x3F | 0x80;
        Self(id)
    }

    /// An id as it stands on the wire. Any 16 bytes are one: a receiver looks ids up and never judges them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// As it stands on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The routing word.
    #[must_use]
    pub fn word(&self) -> u32 {
        u32::from_be_bytes([self.0[12], self.0[13], self.0[14], self.0[15]])
    }

    /// The same id with another routing word.
    #[must_use]
    pub fn with_word(mut self, word: u32) -> Self {
        self.0[Self::WORD..].copy_from_slice(&word.to_be_bytes());
        self
    }
}

impl fmt::Display for Guuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which shard owns an id: the routing word times a secret odd number, its high half modulo the number of shards. The
/// same arithmetic as the kernel's filter in front of the shards' sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Router {
    multiplier: u32,
    inverse: u32,
    shards: u16,
    shard: u16,
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

    /// Whether an id leads to this shard.
    #[must_use]
    pub fn is_mine(&self, id: Guuid) -> bool {
        self.shard_of(id.word()) == self.shard
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
    fn ids_are_uuids_of_version_7() {
        let id = Guuid::new(0x0199_8877_6655, [0xFF; 10]);
        assert_eq!(id.to_string(), "01998877-6655-7fff-bfff-ffffffffffff");
        assert_eq!(id.with_word(0x0102_0304).to_string(), "01998877-6655-7fff-bfff-ffff01020304");
        assert_eq!(id.with_word(7).word(), 7);
    }

    #[test]
    fn issued_words_lead_home() {
        for shards in [1, 2, 3, 7, 64, 255, 256] {
            for shard in 0..shards {
                let router = Router::new(0x9E37_79B1, shards, shard);
                for entropy in [0, 1, 0xFFFF, 0xFFFF_0000, u32::MAX, 0x1234_5678] {
                    assert_eq!(router.shard_of(router.word(entropy)), shard);
                }
            }
        }
    }
}
