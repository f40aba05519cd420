//! Which shard gets a datagram: a routing word in it, the same arithmetic here and in the kernel's filter.

use crate::{config::SHARDS_MAX, reactor::ShardId};

/// The shortest datagram that holds a routing word, whatever its head. Shorter ones, which no protocol here has, are left
/// to the kernel's hash: a filter that loads past the end would send them all to shard 0.
pub const DATAGRAM_MIN: u32 = QUANTUM_WORD + 4;

/// Where the word begins in a Quantum packet: it ends the destination id, which ends at the same place in all of them.
const QUANTUM_WORD: u32 = 13;

/// Where it begins in a short header of QUIC: the destination id follows the first byte (RFC 9000, section 17.3). The id
/// is one of ours, and the word opens it, so that the packet finds its connection from any address (section 5.1).
const SHORT_WORD: u32 = 1;

/// Where a long header says how long its destination id is (RFC 9000, section 17.2).
const LONG_ID_LEN: u32 = 5;

/// Where the word begins in a long header: it opens the destination id there, too.
const LONG_WORD: u32 = LONG_ID_LEN + 1;

/// Bytes of the shortest id that is steered by. A client makes the first one by itself, of 8 random bytes or more, and
/// uses it until the server answers (RFC 9000, section 7.2): all datagrams of its first flight reach one shard.
const LONG_ID_MIN: u32 = 8;

const _: () = assert!(SHORT_WORD + 4 <= DATAGRAM_MIN && LONG_WORD + LONG_ID_MIN <= DATAGRAM_MIN, "loads stay inside");

/// Set in the first byte of every QUIC packet, never in a Quantum one.
const QUIC_BIT: u32 = 0x40;

/// Set in the first byte of QUIC's long headers (RFC 9000, section 17.2), not of short ones.
const LONG_BIT: u32 = 0x80;

/// An odd constant (2^32 over the golden ratio): multiplying by it spreads words over their high bits.
const SPREAD: u32 = 0x9E37_79B1;

/// How datagrams of one socket are spread over the shards of its group: four bytes of the destination id (big-endian)
/// times an odd number, the high half taken modulo the number of shards. Where the four bytes are is a matter of the head,
/// what is made of them is not.
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
const JUMP: u16 = 0x05;
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
        if datagram.len() < DATAGRAM_MIN as usize {
            return None;
        }
        let first = u32::from(datagram[0]);
        let at = if first & QUIC_BIT == 0 {
            QUANTUM_WORD
        } else if first & LONG_BIT == 0 {
            SHORT_WORD
        } else if u32::from(datagram[LONG_ID_LEN as usize]) >= LONG_ID_MIN {
            LONG_WORD
        } else {
            return None;
        };
        let word = datagram[at as usize..].first_chunk()?;
        Some(self.shard_of(u32::from_be_bytes(*word)))
    }

    /// The filter for SO_ATTACH_REUSEPORT_CBPF: it sees a datagram from its first byte on, without the head of UDP. A
    /// value beyond the group makes the kernel fall back to its hash.
    #[must_use]
    pub fn filter(&self) -> [Instruction; 17] {
        // Where jumps lead: to heads with the bit of QUIC, to long ones among them, to the arithmetic, to the last line.
        let (marked, long, spread, hash) = (6, 9, 12, 16);
        let op = |code, operand| Instruction { code, jump_true: 0, jump_false: 0, operand };
        [
            op(LOAD_LEN, 0),
            Instruction { jump_false: skip(1, hash), ..op(JUMP_IF_AT_LEAST, DATAGRAM_MIN) },
            op(LOAD_BYTE, 0),
            Instruction { jump_true: skip(3, marked), ..op(JUMP_IF_BITS, QUIC_BIT) },
            op(LOAD_WORD, QUANTUM_WORD),
            op(JUMP, skip(5, spread).into()),
            // marked:
            Instruction { jump_true: skip(6, long), ..op(JUMP_IF_BITS, LONG_BIT) },
            op(LOAD_WORD, SHORT_WORD),
            op(JUMP, skip(8, spread).into()),
            // long:
            op(LOAD_BYTE, LONG_ID_LEN),
            Instruction { jump_false: skip(10, hash), ..op(JUMP_IF_AT_LEAST, LONG_ID_MIN) },
            op(LOAD_WORD, LONG_WORD),
            // spread:
            op(MULTIPLY, self.multiplier),
            op(SHIFT_RIGHT, 16),
            op(MODULO, u32::from(self.shards)),
            op(RETURN_ACCUMULATOR, 0),
            // hash:
            op(RETURN_VALUE, u32::MAX),
        ]
    }
}

// Instructions between a jump and where it leads.
const fn skip(from: u8, to: u8) -> u8 {
    to - from - 1
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
    use rand::{Rng, SeedableRng, rngs::StdRng};

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
        for first in [0, QUIC_BIT, QUIC_BIT | LONG_BIT] {
            assert_eq!(steer.shard_of_datagram(&[first as u8; 16]), None);
        }
        assert_eq!(steer.shard_of_datagram(&[0; 17]), Some(ShardId(0)));
        assert_eq!(steer.shard_of_datagram(&[]), None);
    }

    #[test]
    fn every_head_has_its_word_where_its_destination_id_is() {
        let steer = Steer::new(7);
        for (first, at) in [(0x00, 13), (0x80, 13), (0xBF, 13), (0x40, 1), (0x7F, 1), (0xC0, 6), (0xFF, 6)] {
            for word in (0..1000u32).map(|n| n.wrapping_mul(0x85EB_CA6B)) {
                let mut datagram = [0xA5; 40];
                datagram[0] = first;
                datagram[at..at + 4].copy_from_slice(&word.to_be_bytes());
                assert_eq!(steer.shard_of_datagram(&datagram), Some(steer.shard_of(word)), "{first:#x}");
            }
        }
    }

    #[test]
    fn long_headers_of_quic_are_steered_by_ids_of_8_bytes_or_more() {
        let steer = Steer::new(5);
        for len in 0..=255 {
            let mut datagram = [9; 40];
            datagram[..6].copy_from_slice(&[0xC0, 0, 0, 0, 1, len]);
            let shard = (len >= 8).then(|| steer.shard_of(0x0909_0909));
            assert_eq!(steer.shard_of_datagram(&datagram), shard, "{len}");
        }
    }

    #[test]
    fn the_filter_decides_as_the_program_does() {
        let mut rng = StdRng::seed_from_u64(17);
        for steer in [Steer::new(1), Steer::new(3), Steer::keyed(7, 0xDEAD_BEEF), Steer::keyed(256, u32::MAX)] {
            let filter = steer.filter();
            let mut check = |len: usize, first: u8, id_len: Option<u8>| {
                let mut datagram = [0; 40];
                rng.fill(&mut datagram[..len]);
                datagram[0] = first;
                datagram[5] = id_len.unwrap_or(datagram[5]);
                let datagram = &datagram[..len];
                let shard = steer.shard_of_datagram(datagram).map_or(u32::MAX, |shard| u32::from(shard.0));
                assert_eq!(run(&filter, datagram), shard, "{datagram:02x?}");
            };
            for len in 0..=40 {
                (0..=255).for_each(|first| check(len, first, None));
                for first in [0x00, 0x40, 0x80, 0xC0] {
                    (0..=255).for_each(|id_len| check(len, first, Some(id_len)));
                }
            }
        }
    }

    /// What the kernel makes of a filter; a load past the end, which it answers with shard 0, is a fault here.
    fn run(filter: &[Instruction], datagram: &[u8]) -> u32 {
        let (mut accumulator, mut at) = (0u32, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = filter[at];
            let load = operand as usize;
            let mut jump = |holds: bool| at += usize::from(if holds { jump_true } else { jump_false });
            match code {
                LOAD_LEN => accumulator = datagram.len() as u32,
                LOAD_BYTE => accumulator = u32::from(datagram[load]),
                LOAD_WORD => accumulator = u32::from_be_bytes(*datagram[load..].first_chunk().expect("a word")),
                JUMP => at += operand as usize,
                JUMP_IF_AT_LEAST => jump(accumulator >= operand),
                JUMP_IF_BITS => jump(accumulator & operand != 0),
                MULTIPLY => accumulator = accumulator.wrapping_mul(operand),
                SHIFT_RIGHT => accumulator >>= operand,
                MODULO => accumulator %= operand,
                RETURN_VALUE => return operand,
                RETURN_ACCUMULATOR => return accumulator,
                code => panic!("{code:#x} is no instruction"),
            }
            at += 1;
        }
    }
}
