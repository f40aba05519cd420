//! Which shard gets a datagram: a routing word in it, the same arithmetic here and in the kernel's filter.

use crate::{config::SHARDS_MAX, reactor::ShardId};

/// Where the four routing bytes begin in a datagram.
pub const WORD_OFFSET: u32 = 13;

/// The shortest datagram that holds a routing word. Shorter ones are left to the kernel's hash: a filter that loads past
/// the end would send them all to shard 0.
pub const DATAGRAM_MIN: u32 = WORD_OFFSET + 4;

/// Set in the first byte of every QUIC packet, never in a Quantum one.
const QUIC_BIT: u32 = 0x40;

/// An odd constant (2^32 over the golden ratio): multiplying by it spreads words over their high bits.
const SPREAD: u32 = 0x9E37_79B1;

/// How datagrams of one socket are spread over the shards of its group: the word at [`WORD_OFFSET`] (big-endian) times
/// an odd number, its high half taken modulo the number of shards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Steer {
    shards: u16,
    multiplier: u32,
    inverse: u32,
}

impl std::fmt::Debug for Steer {
    // The multiplier is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steer").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// One instruction of a classic BPF program, as the kernel reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jump_true: u8,
    /// Instructions to skip otherwise.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

const LOAD_LEN: u16 = 0x80;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_BITS: u16 = 0x45;
const MULTIPLY: u16 = 0x24;
const SHIFT_RIGHT: u16 = 0x74;
const MODULO: u16 = 0x94;
const RETURN_VALUE: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;

impl Steer {
    /// Steering over `shards` shards by a multiplier that everybody knows.
    ///
    /// # Panics
    /// If `shards` is 0 or above [`SHARDS_MAX`].
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self::keyed(shards, SPREAD)
    }

    /// Steering by a multiplier of one's own. Chosen at random and kept secret, it keeps senders from aiming at one
    /// shard.
    ///
    /// # Panics
    /// If `shards` is 0 or above [`SHARDS_MAX`], or `multiplier` is even.
    #[must_use]
    pub fn keyed(shards: u16, multiplier: u32) -> Self {
        assert!((1..=SHARDS_MAX).contains(&shards), "shards out of range");
        assert!(multiplier % 2 == 1, "an even multiplier loses bits");
        Self { shards, multiplier, inverse: inverse(multiplier) }
    }

    /// Over how many shards.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard that a routing word leads to.
    #[must_use]
    pub fn shard_of(&self, word: u32) -> ShardId {
        let spread = word.wrapping_mul(self.multiplier) >> 16;
        ShardId((spread % u32::from(self.shards)) as u16)
    }

    /// A routing word that leads to `shard`, made from random bits: some word close to `entropy` does.
    ///
    /// # Panics
    /// If `shard` is not one of the shards.
    #[must_use]
    pub fn word_for(&self, shard: ShardId, entropy: u32) -> u32 {
        assert!(shard.0 < self.shards, "no such shard");
        // The multiplication is a bijection, so it is undone: choose the high half freely among those that fit.
        let high = entropy >> 16;
        let count = u32::from(self.shards);
        let mut fitting = high - high % count + u32::from(shard.0);
        if fitting > 0xFFFF {
            fitting -= count;
        }
        ((fitting << 16) | (entropy & 0xFFFF)).wrapping_mul(self.inverse)
    }

    /// The shard of a datagram, as the filter decides; `None`: the kernel's hash decides.
    #[must_use]
    pub fn shard_of_datagram(&self, datagram: &[u8]) -> Option<ShardId> {
        let first = *datagram.first()?;
        let word = datagram.get(WORD_OFFSET as usize..DATAGRAM_MIN as usize)?;
        let word = u32::from_be_bytes(word.try_into().ok()?);
        (u32::from(first) & QUIC_BIT == 0).then(|| self.shard_of(word))
    }

    /// The filter for SO_ATTACH_REUSEPORT_CBPF. A value beyond the group makes the kernel fall back to its hash.
    #[must_use]
    pub fn filter(&self) -> [Instruction; 10] {
        let op = |code, operand| Instruction { code, jump_true: 0, jump_false: 0, operand };
        [
            op(LOAD_LEN, 0),
            Instruction { code: JUMP_IF_AT_LEAST, jump_true: 0, jump_false: 7, operand: DATAGRAM_MIN },
            op(LOAD_BYTE, 0),
            Instruction { code: JUMP_IF_BITS, jump_true: 5, jump_false: 0, operand: QUIC_BIT },
            op(LOAD_WORD, WORD_OFFSET),
            op(MULTIPLY, self.multiplier),
            op(SHIFT_RIGHT, 16),
            op(MODULO, u32::from(self.shards)),
            op(RETURN_ACCUMULATOR, 0),
            op(RETURN_VALUE, u32::MAX),
        ]
    }
}

// The inverse of an odd number modulo 2^32 by Newton's iteration: each step doubles the bits that are right.
const fn inverse(multiplier: u32) -> u32 {
    let mut inverse = multiplier;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(multiplier.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}
const _: () = assert!(SPREAD.wrapping_mul(inverse(SPREAD)) == 1, "words must be invertible");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_made_for_a_shard_leads_there() {
        for shards in [1, 2, 3, 7, 64, 255, 256] {
            for steer in [Steer::new(shards), Steer::keyed(shards, 1), Steer::keyed(shards, 0xDEAD_BEEF)] {
                for shard in 0..shards {
                    for entropy in [0, 1, 0xFFFF, 0xFFFF_0000, u32::MAX, 0x1234_5678] {
                        assert_eq!(steer.shard_of(steer.word_for(ShardId(shard), entropy)), ShardId(shard));
                    }
                }
            }
        }
    }

    #[test]
    fn random_words_spread_evenly() {
        let steer = Steer::new(7);
        let mut counts = [0u32; 7];
        for word in 0..70_000u32 {
            counts[steer.shard_of(word.wrapping_mul(0x85EB_CA6B)).index()] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn datagrams_without_a_routing_word_are_left_to_the_hash() {
        let steer = Steer::new(4);
        assert_eq!(steer.shard_of_datagram(&[0; 16]), None);
        assert_eq!(steer.shard_of_datagram(&[0x40; 17]), None);
        assert_eq!(steer.shard_of_datagram(&[0; 17]), Some(ShardId(0)));
        assert_eq!(steer.shard_of_datagram(&[]), None);
    }
}
