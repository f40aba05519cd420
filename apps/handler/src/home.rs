//! Where a key is at home: 256 virtual shards, mapped onto the shards of this run.

use crate::ShardId;

/// Virtual shards. Keys hash to them for ever; only their mapping to shards changes with the number of cores.
pub const VSHARDS: usize = 256;

/// The virtual shard of a key: FNV-1a, folded. The function is part of the data format and never changes.
#[must_use]
pub fn vshard(key: &str) -> u8 {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let folded = hash ^ (hash >> 32);
    let folded = folded ^ (folded >> 16);
    (folded ^ (folded >> 8)).to_le_bytes()[0]
}

/// Which shard owns which virtual shard.
#[derive(Clone, Debug)]
pub struct Map([u16; VSHARDS]);

impl Map {
    /// Spreads the virtual shards evenly over `shards`.
    #[must_use]
    pub fn even(shards: u16) -> Self {
        assert!(shards > 0, "a run has at least one shard");
        let mut map = [0; VSHARDS];
        for (shard, slot) in (0..shards).cycle().zip(map.iter_mut()) {
            *slot = shard;
        }
        Self(map)
    }

    /// The home shard of a key.
    #[must_use]
    pub fn home(&self, key: &str) -> ShardId {
        ShardId(self.0[usize::from(vshard(key))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_part_of_the_format() {
        assert_eq!([vshard(""), vshard("chat/lobby"), vshard("canvas/b1")], EXPECTED);
    }

    #[test]
    fn keys_spread_over_all_virtual_shards() {
        let mut counts = [0_u32; VSHARDS];
        for n in 0..25_600 {
            counts[usize::from(vshard(&format!("chat/room-{n}")))] += 1;
        }
        assert!(counts.iter().all(|count| (40..200).contains(count)), "{counts:?}");
    }

    const EXPECTED: [u8; 3] = [225, 237, 163];
}
