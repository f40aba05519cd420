//! Topics from one run to the next: what readers and publishers find again, and what damaged bytes cannot do.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use handler::{Code, Cx, Effect, Map, Message, Out, Peer, PeerInfo, Push, ShardId};
use rand::{Rng, SeedableRng, rngs::StdRng};
use topic::{
    Change, Limits, Mail, Topics,
    snapshot::{self, HEAD_BYTES, Restored, Share, Snapshot, SnapshotError},
};

/// A run of a server with shards that know only their own topics; everybody is a peer of the topic's home.
struct Run {
    shards: Vec<Topics>,
    map: Map,
    rng: StdRng,
    peers: u32,
}

/// A history as a reader sees it: epoch, head, and records by offset.
type Story = (u64, u64, BTreeMap<u64, (String, u64, Vec<u8>)>);

impl Run {
    fn new(seed: u64, shards: u16, limits: Limits) -> Self {
        println!("seed {seed}");
        let topics = (0..shards).map(|shard| Topics::new(limits, seed + u64::from(shard)));
        Self { shards: topics.collect(), map: Map::even(shards), rng: StdRng::seed_from_u64(seed), peers: 0 }
    }

    fn home(&self, topic: &str) -> usize {
        usize::from(self.map.home(topic).0)
    }

    /// What a new peer is told when it says something, until all is quiet.
    fn say(&mut self, (user, device): (&str, &str), topic: &str, message: Message<'_>) -> Vec<Push> {
        self.peers += 1;
        let peer = Peer { index: self.peers, generation: 0 };
        let home = self.home(topic);
        let Self { shards, map, rng, .. } = self;
        let (topics, shard) = (&mut shards[home], ShardId(home as u16));
        let (mut out, mut arena, mut letters, mut told) =
            (Out::default(), BytesMut::new(), VecDeque::new(), Vec::new());
        let now = Instant::now();
        topics.on_open(peer, &PeerInfo { user: user.into(), device: device.into(), guest: false });
        let mut message = Some(message);
        loop {
            let mut cx = Cx { now, wall_ms: 7, shard, rng, map, arena: &mut arena, out: &mut out };
            match (message.take(), letters.pop_front()) {
                (Some(message), _) => topics.on_message(&mut cx, peer, message),
                (None, Some(mail)) => drop(topics.on_mail(&mut cx, shard, mail)),
                (None, None) => break,
            }
            for effect in out.effects.drain(..) {
                match effect {
                    Effect::Mail { mail, .. } => letters.push_back(mail),
                    Effect::Send { push, .. } | Effect::Publish { push, .. } => told.push(push),
                    Effect::WakeAt { .. } | Effect::Disk { .. } | Effect::Close { .. } => {}
                }
            }
        }
        let mut cx = Cx { now, wall_ms: 7, shard, rng, map, arena: &mut arena, out: &mut out };
        topics.on_close(&mut cx, peer);
        for effect in out.effects.drain(..) {
            if let Effect::Mail { mail, .. } = effect {
                let mut out = Out::<Mail>::default();
                let mut cx = Cx { now, wall_ms: 7, shard, rng, map, arena: &mut arena, out: &mut out };
                topics.on_mail(&mut cx, shard, mail);
            }
        }
        told
    }

    fn publish(&mut self, who: (&str, &str), topic: &str, seq: Option<u64>, body: &[u8]) -> Result<u64, Code> {
        match &self.say(who, topic, Message::Pub { id: 1, topic, seq, body })[..] {
            [Push::PubOk { offset, .. }] => Ok(*offset),
            [Push::Err { code, .. }] => Err(*code),
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, topic: &str) -> Story {
        let mut story = Story::default();
        for push in self.say(("reader", "tv"), topic, Message::Sub { id: 1, topic, epoch: None, after: Some(0) }) {
            match push {
                Push::SubOk { epoch, head, .. } => (story.0, story.1) = (epoch, head),
                Push::Msg { offset, from, at_ms, body, .. } => {
                    let new = story.2.insert(offset, (from.to_string(), at_ms, body.to_vec()));
                    assert_eq!(new, None, "offset {offset} came twice");
                }
                _ => {}
            }
        }
        story
    }

    /// The snapshot of all shards.
    fn stop(&mut self) -> Vec<u8> {
        let shares: Vec<Share> = self.shards.iter_mut().map(Topics::hand_over).collect();
        let mut bytes = snapshot::head(&shares).to_vec();
        shares.iter().for_each(|share| bytes.extend_from_slice(share.bytes()));
        assert_eq!(Snapshot::length(&bytes), Ok(bytes.len() as u64));
        bytes
    }

    fn start(&mut self, snapshot: &Snapshot) -> Vec<Restored> {
        let Self { shards, map, .. } = self;
        let take_up = |(shard, topics): (usize, &mut Topics)| {
            topics.take_up(snapshot, |topic| usize::from(map.home(topic).0) == shard)
        };
        shards.iter_mut().enumerate().map(take_up).collect()
    }
}

fn bodies(rng: &mut StdRng, bytes_max: usize) -> Vec<u8> {
    vec![rng.random(); rng.random_range(0..bytes_max)]
}

/// A run with some topics; also everything that was published, in order.
fn busy(seed: u64, shards: u16, limits: Limits) -> (Run, Vec<(String, &'static str, u64, u64)>) {
    let mut run = Run::new(seed, shards, limits);
    let mut published = Vec::new();
    for seq in 0..400 {
        let topic = format!("chat/room-{}", run.rng.random_range(0..9));
        let device = ["laptop", "phone"][run.rng.random_range(0..2)];
        let body = bodies(&mut run.rng, 200);
        if run.rng.random_bool(0.2) {
            run.publish(("bob", "desk"), &topic, None, &body).expect("room");
        } else {
            let offset = run.publish(("ada", device), &topic, Some(seq), &body).expect("room");
            published.push((topic, device, seq, offset));
        }
    }
    (run, published)
}

#[test]
fn another_run_with_other_shards_goes_on_where_the_first_one_stopped() {
    for seed in 0..20 {
        let limits = Limits { history_records_max: if seed % 2 == 0 { 1_000 } else { 20 }, ..Limits::default() };
        let (mut old, published) = busy(seed, 1 + seed as u16 % 4, limits);
        let stories: Vec<Story> = (0..9).map(|room| old.read(&format!("chat/room-{room}"))).collect();
        let snapshot = Snapshot::read(old.stop()).expect("whole");
        let records: usize = stories.iter().map(|story| story.2.len()).sum();
        assert_eq!((snapshot.topics(), snapshot.records()), (9, records as u64));

        let mut new = Run::new(seed + 100, 1 + (seed as u16 + 1) % 4, limits);
        let restored = new.start(&snapshot);
        assert_eq!(restored.iter().map(|shard| shard.records).sum::<u64>(), records as u64);
        assert!(restored.iter().all(|shard| (shard.topics_dropped, shard.records_dropped) == (0, 0)));
        for (room, story) in stories.iter().enumerate() {
            assert_eq!(new.read(&format!("chat/room-{room}")), *story);
        }
        let mut repeated = 0;
        for (topic, device, seq, offset) in &published {
            if new.read(topic).2.contains_key(offset) {
                assert_eq!(new.publish(("ada", device), topic, Some(*seq), b"again"), Ok(*offset));
                repeated += 1;
            }
        }
        assert!(repeated > 0);
        let head = stories[0].1;
        assert_eq!(new.publish(("ada", "laptop"), "chat/room-0", Some(1_000), b"new"), Ok(head + 1));
    }
}

#[test]
fn what_is_handed_over_is_what_was_acknowledged() {
    let mut run = Run::new(1, 1, Limits::default());
    assert_eq!(run.publish(("ada", "laptop"), "chat/a", Some(5), b"one"), Ok(1));
    let first = run.stop();
    assert_eq!(run.publish(("ada", "laptop"), "chat/a", Some(6), b"two"), Err(Code::Unavailable));
    assert_eq!(run.publish(("ada", "laptop"), "chat/b", None, b"two"), Err(Code::Unavailable));
    assert_eq!(run.publish(("ada", "laptop"), "chat/a", Some(5), b"one"), Ok(1), "it is in the snapshot");
    assert_eq!(run.read("chat/a").1, 1);
    assert_eq!(run.stop(), first);
    assert_eq!(run.shards[0].count(), 1);
}

#[test]
fn a_server_without_topics_hands_over_an_empty_snapshot() {
    let bytes = Run::new(1, 3, Limits::default()).stop();
    assert_eq!(bytes.len(), HEAD_BYTES);
    let snapshot = Snapshot::read(bytes).expect("whole");
    assert_eq!((snapshot.topics(), snapshot.records()), (0, 0));
}

#[test]
fn what_has_no_room_is_counted_and_the_newest_stay() {
    let (mut old, _) = busy(5, 2, Limits::default());
    let stories: Vec<Story> = (0..9).map(|room| old.read(&format!("chat/room-{room}"))).collect();
    let snapshot = Snapshot::read(old.stop()).expect("whole");
    for limits in [
        Limits { topics_max: 4, ..Limits::default() },
        Limits { history_records_max: 10, ..Limits::default() },
        Limits { history_bytes_max: 500, ..Limits::default() },
        Limits { history_total_bytes_max: 9_000, ..Limits::default() },
        Limits { history_total_bytes_max: 0, ..Limits::default() },
    ] {
        let mut new = Run::new(6, 1, limits);
        let restored = new.start(&snapshot)[0];
        assert_eq!(restored.topics + restored.topics_dropped, 9);
        assert_eq!(restored.records + restored.records_dropped, snapshot.records());
        assert!(restored.records_dropped > 0, "{limits:?}");
        let size = new.shards[0].size();
        assert!(size.topics <= limits.topics_max && size.history_bytes <= limits.history_total_bytes_max);
        for (room, (epoch, head, records)) in stories.iter().enumerate() {
            let story = new.read(&format!("chat/room-{room}"));
            if story.0 == *epoch {
                assert_eq!(story.1, *head, "offsets go on");
                assert!(story.2.iter().rev().eq(records.iter().rev().take(story.2.len())), "the newest ones");
            } else {
                assert_eq!(story.1, 0);
            }
        }
    }
}

#[test]
fn damaged_bytes_are_told_apart_and_taken_not_at_all() {
    let (mut run, _) = busy(9, 2, Limits::default());
    let whole = run.stop();
    let read = |bytes: &[u8]| Snapshot::read(bytes.to_vec()).map(|_| ());
    assert_eq!(read(&whole), Ok(()));
    assert_eq!(read(b""), Err(SnapshotError::Foreign));
    assert_eq!(read(&[7; 100]), Err(SnapshotError::Foreign));
    let mut newer = whole.clone();
    newer[8] = 3;
    assert_eq!(read(&newer), Err(SnapshotError::Version(3)));
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "cut off at {end}");
    }
    assert!(matches!(read(&[&whole[..], &[0]].concat()), Err(SnapshotError::Length { .. })));
    let mut rng = StdRng::seed_from_u64(9);
    for _ in 0..3_000 {
        let mut flipped = whole.clone();
        let at = rng.random_range(0..flipped.len());
        flipped[at] ^= 1 << rng.random_range(0..8);
        assert!(read(&flipped).is_err(), "a flipped bit in byte {at}");
    }
    let text = read(&whole[..whole.len() - 1]).expect_err("short").to_string();
    assert!(text.starts_with("its sections have "), "{text}");
}

/// Makes lengths and checksums right again, so that what is behind them is reached.
fn seal(topic: &[u8], topics: u32) -> Vec<u8> {
    let length = (topic.len() as u64).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), topic).to_le_bytes();
    let section = [&length[..], &crc, topic].concat();
    let mut head = b"ringtops\x02\0\0\0".to_vec();
    head.extend_from_slice(&topics.to_le_bytes());
    head.extend_from_slice(&(section.len() as u64 * u64::from(topics)).to_le_bytes());
    let crc = crc32c::crc32c(&head).to_le_bytes();
    head.extend_from_slice(&crc);
    (0..topics).for_each(|_| head.extend_from_slice(&section));
    head
}

#[test]
fn whatever_the_bytes_are_they_are_refused_or_usable() {
    let mut run = Run::new(3, 1, Limits::default());
    for seq in 0..8 {
        let seq = (seq % 3 != 0).then_some(seq);
        run.publish(("ada", "laptop"), "chat/a", seq, &[b'x'; 20]).expect("room");
    }
    let whole = run.stop();
    let topic = &whole[HEAD_BYTES + 12..];
    assert_eq!(seal(topic, 1), whole, "the drawing is the code");
    let twice = Snapshot::read(seal(topic, 2)).expect_err("twice").to_string();
    assert_eq!(twice, "section 2 is damaged: a topic comes twice");

    let mut rng = StdRng::seed_from_u64(3);
    let (mut taken, mut refused) = (0, 0);
    for n in 0..20_000 {
        let mut topic = topic.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..topic.len());
            match rng.random_range(0..5) {
                0 => topic[at] ^= 1 << rng.random_range(0..8),
                1 => topic[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
                2 => topic.truncate(at.max(1)),
                3 => topic.insert(at, rng.random()),
                _ => {
                    let end = (at + 8).min(topic.len());
                    topic[at..end].fill([0, 0xff][rng.random_range(0..2)]);
                }
            }
        }
        let bytes = seal(&topic, 1);
        let outcome = catch_unwind(AssertUnwindSafe(|| use_it(bytes)));
        match outcome.unwrap_or_else(|_| panic!("mutation {n}")) {
            true => taken += 1,
            false => refused += 1,
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 100 && refused > 100);
}

/// Takes up a snapshot if it is one, and uses the topic in it; whether it was.
fn use_it(bytes: Vec<u8>) -> bool {
    let Ok(snapshot) = Snapshot::read(bytes.clone()) else { return false };
    let mut run = Run::new(4, 1, Limits::default());
    let restored = run.start(&snapshot)[0];
    assert_eq!((restored.topics, restored.records_dropped), (1, 0));
    let again = run.shards[0].hand_over();
    assert_eq!(again.bytes(), &bytes[HEAD_BYTES..], "what was taken up is handed over again");
    let mut run = Run::new(4, 1, Limits::default());
    run.start(&snapshot);
    let (_, head, records) = run.read("chat/a");
    assert!(records.keys().all(|offset| *offset <= head));
    assert_eq!(run.publish(("ada", "another device"), "chat/a", Some(1), b"new"), Ok(head + 1));
    true
}

/// Without a journal a stop in good order keeps facts, for the run that follows, with a journal or without.
#[test]
fn facts_are_handed_over_when_no_journal_has_them() {
    let facts = |run: &Run| {
        let of = |name: &str| {
            let found = run.shards[run.home(name)].facts(name, "", None);
            found.map(|(key, value)| (name.to_owned(), key.to_owned(), value.to_vec())).collect::<Vec<_>>()
        };
        ["chat/g/1", "chat/u/ada", "chat/u/bob"].into_iter().flat_map(of).collect::<Vec<_>>()
    };
    let mut old = Run::new(1, 3, Limits::default());
    for (name, key, value) in
        [("chat/g/1", "m/ada", "owner"), ("chat/g/1", "m/bob", ""), ("chat/u/ada", "c/bob", "yes")]
    {
        let home = old.home(name);
        let change = Change { key: key.to_owned(), value: Some(value.as_bytes().into()) };
        old.shards[home].record(name, &[change], 1).expect("taken");
    }
    assert_eq!(old.publish(("ada", "laptop"), "chat/g/1", None, b"hi"), Ok(1));
    let before = facts(&old);
    let bytes = old.stop();
    let snapshot = Snapshot::read(bytes.clone()).expect("whole");
    assert_eq!((before.len(), snapshot.topics()), (3, 1));
    let mut new = Run::new(2, 2, Limits::default());
    let restored = new.start(&snapshot);
    assert_eq!(
        restored.iter().map(|shard| (shard.facts, shard.facts_dropped)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (3, 0)
    );
    assert_eq!(facts(&new), before);
    assert_eq!(facts_of(&new.stop()), facts_of(&bytes), "and the next stop keeps them again");
    // A stop without topics is one all the same.
    let mut only = Run::new(3, 1, Limits::default());
    let change = Change { key: "c/bob".to_owned(), value: Some(Bytes::from_static(b"yes")) };
    only.shards[0].record("chat/u/ada", &[change], 1).expect("taken");
    let share = only.shards[0].hand_over();
    assert!(share.topics() == 0 && !share.is_empty());
    let late = Change { key: "c/eve".to_owned(), value: Some(Bytes::from_static(b"yes")) };
    let refused = only.shards[0].record("chat/u/ada", &[late], 2).expect_err("too late for the snapshot");
    assert_eq!((refused.0, only.shards[0].fact("chat/u/ada", "c/eve")), (Code::Unavailable, None));
}

/// How many bytes the sections of a snapshot have.
fn facts_of(bytes: &[u8]) -> usize {
    bytes.len() - HEAD_BYTES
}

/// The version before knew topics only: it is read all the same.
#[test]
fn a_snapshot_of_the_version_before_is_read() {
    let (mut run, _) = busy(9, 1, Limits::default());
    let mut bytes = run.stop();
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..24]);
    bytes[24..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Snapshot::read(bytes).expect("whole").topics(), 9);
}
