//! Quantum on the real server over loopback: chat with everybody else, moves, floods, restarts.

mod chat;
mod flood;
mod life;
pub(crate) mod talker;
mod train;

use engine::{ShardId, Steer};
use quantum::Router;
use rand::{Rng, SeedableRng, rngs::StdRng};

#[test]
fn the_kernels_steering_and_the_ids_agree() {
    let mut rng = StdRng::seed_from_u64(3);
    for shards in [1, 2, 3, 7, 64, 256] {
        let multiplier = rng.random::<u32>() | 1;
        let steer = Steer::keyed(shards, multiplier);
        for shard in 0..shards {
            let router = Router::new(multiplier, shards, shard);
            let word: u32 = rng.random();
            assert_eq!(steer.shard_of(word).0, router.shard_of(word));
            assert_eq!(steer.shard_of(router.word(rng.random())), ShardId(shard));
            assert_eq!(router.shard_of(steer.word_for(ShardId(shard), rng.random())), shard);
        }
    }
}
