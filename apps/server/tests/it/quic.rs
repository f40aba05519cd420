//! QUIC on the real server over loopback: sessions on raw streams and in WebTransport, HTTP/3, moves, floods, restarts.

mod chat;
mod http3;
mod life;
mod talker;

use engine::{ShardId, Steer};
use quic::Router;
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
