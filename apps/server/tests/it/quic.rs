//! QUIC on the real server over loopback: sessions on raw streams and in WebTransport, HTTP/3, moves, floods, restarts.

mod chat;
mod http3;
mod life;
pub(crate) mod talker;

use engine::{ShardId, Steer};
use quic::{Id, Router};
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
            // An id of this shard, as it stands in both kinds of heads.
            let id = Id::routed(router.word(rng.random()), rng.random());
            assert_eq!(router.foreign(&id), None);
            let short = [&[0x40], id.as_slice(), &[0; 8]].concat();
            let long = [&[0xC0, 0, 0, 0, 1, Id::LEN as u8], id.as_slice(), &[0; 8]].concat();
            assert_eq!(steer.shard_of_datagram(&short), Some(ShardId(shard)));
            assert_eq!(steer.shard_of_datagram(&long), Some(ShardId(shard)));
        }
    }
}
