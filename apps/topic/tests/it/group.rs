//! Group commit in numbers: how many acknowledgements share a sync, and how long one waits, where nothing but the disk takes
//! time.

use std::{collections::BTreeMap, time::Duration};

use handler::{Level, Message, Peer, PeerInfo, Push};
use rand::Rng;
use simnet::{Disk, DiskKind};
use topic::Limits;

use crate::disk::{Heard, Machine, disk_config};

const PUBLISHERS: u32 = 64;
const PUBLICATIONS: usize = 20_000;
/// Publications in the time of a usual sync, one by one: more than the 50 that must at least be acknowledged.
const OFFERED: u32 = 60;

/// How long a sync alone takes: the median and the 99th percentile.
fn probe(seed: u64) -> (Duration, Duration) {
    let mut disk = Disk::new(seed, disk_config());
    let mut syncs: Vec<Duration> = (0..1_000).map(|_| disk.latency(DiskKind::Sync)).collect();
    syncs.sort_unstable();
    (syncs[500], syncs[990])
}

struct Load {
    machine: Machine,
    asked: BTreeMap<u32, Duration>,
    waited: Vec<Duration>,
}

impl Load {
    fn pass(&mut self, time: Duration) {
        self.machine.pass(time);
        let now = self.machine.elapsed();
        for heard in self.machine.heard.drain(..) {
            match heard {
                Heard::Push(_, _, Push::PubOk { id, level, .. }) => {
                    assert_eq!(level, Level::Durable);
                    self.waited.push(now - self.asked.remove(&id).expect("asked once"));
                }
                Heard::Push(_, _, push) => panic!("{push:?}"),
                _ => {}
            }
        }
    }
}

/// The aims of the journal: 50 acknowledgements in the time of a sync, the 99th percentile within three times that of a sync.
#[test]
fn many_share_a_sync_and_nobody_waits_for_three() {
    for seed in 0..4 {
        println!("seed {seed}");
        let (sync_p50, sync_p99) = probe(seed);
        let mut machine = Machine::new(seed, 1, Limits::default());
        machine.start(false).expect("an empty disk");
        for index in 0..PUBLISHERS {
            let info = PeerInfo { user: format!("user-{index}").as_str().into(), device: "a".into(), guest: false };
            machine.open(0, Peer { index, generation: 0 }, &info);
        }
        let mut load = Load { machine, asked: BTreeMap::new(), waited: Vec::new() };
        // The first segment is made.
        load.pass(Duration::from_secs(1));
        let (began, gap) = (load.machine.elapsed(), sync_p50 / OFFERED);
        for id in 0..PUBLICATIONS as u32 {
            let index = load.machine.rng.random_range(0..PUBLISHERS);
            load.asked.insert(id, load.machine.elapsed());
            let topic = format!("room-{index}");
            let message =
                Message::Pub { id, topic: &topic, seq: None, body: b"{\"text\":\"a message of some length\"}" };
            load.machine.say((0, Peer { index, generation: 0 }), message);
            let pause = load.machine.rng.random_range(0.0..2.0);
            load.pass(gap.mul_f64(pause));
        }
        while !load.asked.is_empty() {
            load.pass(gap);
        }
        let took = load.machine.elapsed() - began;
        let shared = PUBLICATIONS as f64 * sync_p50.as_secs_f64() / took.as_secs_f64();
        load.waited.sort_unstable();
        let (p50, p99) = (load.waited[PUBLICATIONS / 2], load.waited[PUBLICATIONS * 99 / 100]);
        println!("{shared:.1} in a sync of {sync_p50:?}; waited {p50:?}, p99 {p99:?}; sync p99 {sync_p99:?}");
        assert!(shared >= 50.0, "{shared}");
        assert!(p99 <= sync_p99 * 3, "{p99:?} {sync_p99:?}");
    }
}
