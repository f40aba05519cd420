//! Topics on seeded bad disks: shards with journals, their mail and timers, and disk operations that take their time, so
//! that the power may go between any two steps of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use handler::{
    Cx, DiskOperation, Effect, Map, Message, Out, Outcome, Peer, PeerInfo, Pressure, Push, ShardId, Ticket, Timer,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use simnet::{CrashPlan, Disk, DiskConfig, DiskError, DiskKind, Latency};
use topic::{
    Change, Limits, Mail, News, Page, Topics,
    journal::{RecoverError, Recovered, Segments, name_of, number_of},
    snapshot::{self, Restored, Share, Snapshot},
};

use crate::world::digest;

pub(crate) const ORIGIN: u64 = 0x05ee_d0fa_d15c;

/// When the first run starts, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_000_000;

/// The kinds of facts about messages that there are beside those that replace them.
const KINDS: &[&str] = &["edits/"];

/// The token of changes that no story waits for.
pub(crate) const NOBODY: u64 = u64::MAX;

/// Too many open files, as Linux says it.
const EMFILE: i32 = 24;

/// What topics told somebody.
pub(crate) enum Heard {
    Push(usize, Peer, Push),
    Page(usize, Page),
    Settled(usize, u64, bool),
}

/// How a run ends.
#[derive(Clone, Copy)]
pub(crate) enum Stop {
    /// What was written is there, though not on the disk.
    Kill,
    PowerLoss(CrashPlan),
}

pub(crate) struct Shard {
    pub(crate) topics: Topics,
    pub(crate) disk: Disk,
    out: Out<Mail>,
    arena: BytesMut,
    rng: StdRng,
    timers: BTreeMap<Timer, Instant>,
    under_way: BTreeMap<(Instant, u64), UnderWay>,
}

/// A disk operation that takes its time. A write is followed by its sync, a removal by that of the directory.
struct UnderWay {
    ticket: Ticket,
    operation: DiskOperation,
    second_half: bool,
}

/// A machine with a disk per shard.
pub(crate) struct Machine {
    pub(crate) rng: StdRng,
    pub(crate) shards: Vec<Shard>,
    pub(crate) heard: VecDeque<Heard>,
    pub(crate) limits: Limits,
    /// Topics whose messages are acknowledged from memory.
    pub(crate) in_memory: Vec<String>,
    /// What the names begin with that places are kept for.
    pub(crate) reserved: &'static [&'static str],
    /// No file can be opened, nor a directory: too many are.
    pub(crate) no_files: bool,
    /// Removals take so long.
    pub(crate) slow_removal: Duration,
    lagging: BTreeSet<(usize, Peer)>,
    mail: VecDeque<(ShardId, ShardId, Mail)>,
    map: Map,
    start: Instant,
    now: Instant,
    /// How wrong the clock of this run is.
    pub(crate) skew_ms: u64,
    operations: u64,
    hash: DefaultHasher,
}

pub(crate) fn disk_config() -> DiskConfig {
    let up_to = |ms| Latency { min: Duration::from_micros(20), max: Duration::from_millis(ms) };
    DiskConfig { read_latency: up_to(1), write_latency: up_to(2), sync_latency: up_to(4), ..DiskConfig::default() }
}

impl Machine {
    /// It does not run yet: [`Machine::start`].
    pub(crate) fn new(seed: u64, shards: u16, limits: Limits) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let mut shard = || Shard {
            topics: Topics::new(limits, rng.random()),
            disk: Disk::new(rng.random(), disk_config()),
            out: Out::default(),
            arena: BytesMut::new(),
            rng: StdRng::seed_from_u64(rng.random()),
            timers: BTreeMap::new(),
            under_way: BTreeMap::new(),
        };
        let shards = (0..shards).map(|_| shard()).collect::<Vec<_>>();
        Self {
            map: Map::even(shards.len() as u16),
            shards,
            heard: VecDeque::new(),
            limits,
            in_memory: vec!["memory/*".into()],
            reserved: &[],
            no_files: false,
            slow_removal: Duration::ZERO,
            lagging: BTreeSet::new(),
            mail: VecDeque::new(),
            start,
            now: start,
            skew_ms: 0,
            operations: 0,
            hash: DefaultHasher::new(),
            rng,
        }
    }

    /// Everything in memory is lost, and of the disks what the end takes.
    pub(crate) fn stop(&mut self, how: Stop) {
        for shard in &mut self.shards {
            match how {
                Stop::Kill => shard.disk.kill(),
                Stop::PowerLoss(plan) => _ = shard.disk.crash(plan),
            }
            shard.timers.clear();
            shard.under_way.clear();
            shard.out = Out::default();
        }
        self.mail.clear();
        self.heard.clear();
        self.lagging.clear();
    }

    /// A new run that finds what is on the disks. With a `fuse` it is ended in the middle of mending the first journal
    /// that it mends.
    pub(crate) fn start(&mut self, fuse: bool) -> Result<Recovered, RecoverError> {
        let recovered = self.recover(fuse)?;
        self.run();
        Ok(recovered)
    }

    /// A new run that also takes up what the last one handed over.
    pub(crate) fn start_with(&mut self, snapshot: &Snapshot) -> Restored {
        self.recover(false).expect("nothing is damaged");
        let restored = self.take_up(snapshot);
        self.run();
        restored
    }

    fn recover(&mut self, fuse: bool) -> Result<Recovered, RecoverError> {
        self.skew_ms = self.rng.random_range(0..20_000);
        let mut sum = Recovered::default();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if self.rng.random() {
                remove_drafts(&mut shard.disk);
            }
            shard.topics = Topics::new(self.limits, self.rng.random());
            shard.topics.reserve(self.reserved);
            shard.topics.speak_of_messages(KINDS);
            let mut folder = Folder { disk: &mut shard.disk, fuse };
            let found = shard.topics.recover((ShardId(number as u16), ORIGIN), self.in_memory.clone(), &mut folder)?;
            sum.segments += found.segments;
            sum.torn_bytes += found.torn_bytes;
            (found.segments, found.bytes, found.batches, found.messages, found.facts).hash(&mut self.hash);
        }
        Ok(sum)
    }

    fn run(&mut self) {
        for shard in 0..self.shards.len() {
            self.call(shard, |topics, cx| topics.on_start(cx));
        }
    }

    /// The run stops in good order: what is in memory only, for the next one.
    pub(crate) fn hand_over(&mut self) -> Snapshot {
        let shares: Vec<Share> = self.shards.iter_mut().map(|shard| shard.topics.hand_over()).collect();
        let mut bytes = snapshot::head(&shares).to_vec();
        shares.iter().for_each(|share| bytes.extend_from_slice(share.bytes()));
        Snapshot::read(bytes).expect("it was just written")
    }

    fn take_up(&mut self, snapshot: &Snapshot) -> Restored {
        let Self { shards, map, .. } = self;
        let mut sum = Restored::default();
        for (number, shard) in shards.iter_mut().enumerate() {
            let it = shard.topics.take_up(snapshot, |topic| usize::from(map.home(topic).0) == number);
            sum.topics += it.topics;
            sum.records += it.records;
            sum.topics_dropped += it.topics_dropped;
            sum.records_dropped += it.records_dropped;
            sum.facts += it.facts;
            sum.facts_dropped += it.facts_dropped;
        }
        sum
    }

    pub(crate) fn open(&mut self, shard: usize, peer: Peer, info: &PeerInfo) {
        self.call(shard, |topics, _| topics.on_open(peer, info));
    }

    pub(crate) fn close(&mut self, shard: usize, peer: Peer) {
        self.lagging.remove(&(shard, peer));
        self.call(shard, |topics, cx| topics.on_close(cx, peer));
    }

    pub(crate) fn say(&mut self, (shard, peer): (usize, Peer), message: Message<'_>) {
        self.call(shard, |topics, cx| topics.on_message(cx, peer, message));
    }

    pub(crate) fn browse(&mut self, (shard, peer): (usize, Peer), topic: &str, before: Option<u64>, limit: u32) {
        self.call(shard, |topics, cx| topics.browse(cx, (peer, 0), topic, before, limit));
    }

    /// Records facts at their home; whether they were taken.
    pub(crate) fn record(&mut self, name: &str, changes: &[Change], token: u64) -> bool {
        let home = self.home(name);
        self.call(home, |topics, _| topics.record(name, changes, token)).is_ok()
    }

    /// From here on nothing is queued for this peer.
    pub(crate) fn lag(&mut self, shard: usize, peer: Peer) {
        self.lagging.insert((shard, peer));
    }

    pub(crate) fn drain(&mut self, shard: usize, peer: Peer) {
        if self.lagging.remove(&(shard, peer)) {
            self.call(shard, |topics, cx| topics.on_pressure(cx, peer, Pressure::Drained));
        }
    }

    /// Time passes: disk operations end and timers fire, in their order.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, shard)) = self.next_event().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            let due = self.shards[shard].under_way.first_key_value().is_some_and(|((due, _), _)| *due == at);
            if due {
                self.step(shard);
            } else if let Some(timer) = self.shards[shard].due_timer(at) {
                self.call(shard, |topics, cx| topics.on_timer(cx, timer));
            }
        }
        self.now = end;
    }

    /// How long ago the first run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn home(&self, name: &str) -> usize {
        usize::from(self.map.home(name).0)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.shards.iter().all(|shard| shard.topics.is_settled())
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    fn next_event(&self) -> Option<(Instant, usize)> {
        let events = self.shards.iter().enumerate().flat_map(|(number, shard)| {
            let operations = shard.under_way.keys().next().map(|(at, _)| *at);
            operations.into_iter().chain(shard.timers.values().copied()).map(move |at| (at, number))
        });
        events.min()
    }

    /// The next step of the disk operation whose time has come.
    fn step(&mut self, shard: usize) {
        let Some((_, mut under_way)) = self.shards[shard].under_way.pop_first() else { return };
        let disk = &mut self.shards[shard].disk;
        let opens = matches!(under_way.operation, DiskOperation::Open { .. } | DiskOperation::Rename { .. });
        let done = match perform(disk, &under_way.operation, under_way.second_half) {
            // A rename is followed by a sync of the directory, which cannot be opened.
            _ if opens && self.no_files => Err(io::Error::from_raw_os_error(EMFILE)),
            done => done.map_err(failed),
        };
        let Some(outcome) = done.transpose() else {
            under_way.second_half = true;
            let at = self.now + disk.latency(DiskKind::Sync);
            return self.start_operation(shard, at, under_way);
        };
        let (ticket, outcome) = (under_way.ticket, outcome.unwrap_or_else(Outcome::Failed));
        self.call(shard, |topics, cx| topics.on_disk(cx, ticket, outcome));
    }

    fn start_operation(&mut self, shard: usize, at: Instant, under_way: UnderWay) {
        self.operations += 1;
        self.shards[shard].under_way.insert((at, self.operations), under_way);
    }

    /// One turn of a shard, and all mail that comes of it.
    pub(crate) fn call<R>(&mut self, shard: usize, work: impl FnOnce(&mut Topics, &mut Cx<'_, Mail>) -> R) -> R {
        let result = self.turn(shard, work);
        while let Some((from, to, mail)) = self.mail.pop_front() {
            let to = usize::from(to.0);
            if let Some(News::Page(page)) = self.turn(to, |topics, cx| topics.on_mail(cx, from, mail)) {
                self.heard.push_back(Heard::Page(to, page));
            }
        }
        result
    }

    fn turn<R>(&mut self, shard: usize, work: impl FnOnce(&mut Topics, &mut Cx<'_, Mail>) -> R) -> R {
        let now = self.now;
        let wall_ms = EPOCH_MS + self.skew_ms + (now - self.start).as_millis() as u64;
        let Shard { topics, out, arena, rng, .. } = &mut self.shards[shard];
        let mut cx = Cx { now, wall_ms, shard: ShardId(shard as u16), rng, map: &self.map, arena, out };
        let result = work(topics, &mut cx);
        topics.on_turn_end(&mut cx);
        let settled: Vec<_> = topics.settled().map(|(token, outcome)| (token, outcome.is_ok())).collect();
        self.heard.extend(settled.into_iter().map(|(token, ok)| Heard::Settled(shard, token, ok)));
        self.apply(shard);
        result
    }

    fn apply(&mut self, shard: usize) {
        let out = std::mem::take(&mut self.shards[shard].out);
        for effect in out.effects {
            match effect {
                Effect::Send { peer, push } => self.queue(shard, peer, push),
                Effect::Publish { peers, push } => {
                    out.peers[peers].iter().for_each(|peer| self.queue(shard, *peer, push.clone()));
                }
                Effect::Mail { to, mail } => self.mail.push_back((ShardId(shard as u16), to, mail)),
                Effect::WakeAt { timer, at } => _ = self.shards[shard].timers.insert(timer, at),
                Effect::Disk { ticket, operation } => {
                    let slow = if matches!(operation, DiskOperation::Remove { .. }) {
                        self.slow_removal
                    } else {
                        Duration::ZERO
                    };
                    let at = self.now + self.shards[shard].disk.latency(kind(&operation)) + slow;
                    self.start_operation(shard, at, UnderWay { ticket, operation, second_half: false });
                }
                Effect::Close { .. } => panic!("topics close nobody"),
            }
        }
    }

    fn queue(&mut self, shard: usize, peer: Peer, push: Push) {
        let yields = match &push {
            Push::Msg { alias, offset, .. } => Some((*alias, Some(*offset))),
            Push::Eph { alias, .. } => Some((*alias, None)),
            _ => None,
        };
        if let Some((alias, offset)) = yields.filter(|_| self.lagging.contains(&(shard, peer))) {
            self.turn(shard, |topics, cx| topics.on_pressure(cx, peer, Pressure::Lagging { alias, offset }));
            return;
        }
        digest(&mut self.hash, shard * 1_000 + peer.index as usize, &push);
        self.heard.push_back(Heard::Push(shard, peer, push));
    }
}

impl Shard {
    fn due_timer(&mut self, now: Instant) -> Option<Timer> {
        let (timer, _) = self.timers.iter().find(|(_, at)| **at <= now)?;
        let timer = *timer;
        self.timers.remove(&timer);
        Some(timer)
    }

    /// Whether a segment was being made.
    pub(crate) fn is_making(&self) -> bool {
        let makes = |operation: &DiskOperation| match operation {
            DiskOperation::Open { create, .. } => *create,
            DiskOperation::Allocate { .. } | DiskOperation::Rename { .. } => true,
            _ => false,
        };
        self.under_way.values().any(|it| makes(&it.operation))
    }

    /// Whether a segment that was written anew is taking the place of the old one.
    pub(crate) fn is_renaming(&self) -> bool {
        self.under_way.values().any(|it| matches!(it.operation, DiskOperation::Rename { .. }))
    }

    /// Whether a batch was being written, or written and not synced.
    pub(crate) fn is_writing(&self) -> (bool, bool) {
        let writes = || self.under_way.values().filter(|it| matches!(it.operation, DiskOperation::Write { .. }));
        (writes().any(|it| !it.second_half), writes().any(|it| it.second_half))
    }
}

fn kind(operation: &DiskOperation) -> DiskKind {
    match operation {
        DiskOperation::Open { .. } | DiskOperation::Read { .. } | DiskOperation::Close { .. } => DiskKind::Read,
        DiskOperation::Allocate { .. }
        | DiskOperation::Write { .. }
        | DiskOperation::Fill { .. }
        | DiskOperation::Remove { .. } => DiskKind::Write,
        DiskOperation::Rename { .. } => DiskKind::Sync,
    }
}

fn failed(error: DiskError) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// Half of an operation, or all of it; `Ok(None)`: the other half follows.
fn perform(disk: &mut Disk, operation: &DiskOperation, second_half: bool) -> Result<Option<Outcome>, DiskError> {
    match operation {
        DiskOperation::Open { name, create } => {
            let (file, len) = disk.open(name, *create)?;
            return Ok(Some(Outcome::Opened { file: handler::FileId(file.0), len }));
        }
        DiskOperation::Read { file, offset, len } => {
            return disk.read(simnet::FileId(file.0), *offset, *len).map(|bytes| Some(Outcome::Read(bytes.into())));
        }
        DiskOperation::Write { file, offset, bytes } if !second_half => {
            return disk.write(simnet::FileId(file.0), *offset, bytes).map(|()| None);
        }
        DiskOperation::Remove { name } if !second_half => return disk.remove(name).map(|()| None),
        DiskOperation::Allocate { file, bytes } => disk.allocate(simnet::FileId(file.0), *bytes)?,
        DiskOperation::Fill { file, offset, bytes } => disk.write(simnet::FileId(file.0), *offset, bytes)?,
        DiskOperation::Write { file, .. } => disk.sync(simnet::FileId(file.0))?,
        DiskOperation::Close { file } => disk.close(simnet::FileId(file.0))?,
        DiskOperation::Rename { from, to } => disk.rename(from, to)?,
        DiskOperation::Remove { .. } => disk.sync_dir("")?,
    }
    Ok(Some(Outcome::Done))
}

fn remove_drafts(disk: &mut Disk) {
    for name in disk.list().iter().filter(|name| name.ends_with(".draft")) {
        disk.remove(name).expect("the disk works at the start");
    }
}

/// The segments of a journal on a disk.
pub(crate) struct Folder<'a> {
    pub(crate) disk: &'a mut Disk,
    /// The run ends in the middle of the first cut.
    pub(crate) fuse: bool,
}

impl Segments for Folder<'_> {
    fn numbers(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.disk.list().iter().filter_map(|name| number_of(name)).collect())
    }

    fn read(&mut self, number: u64, most: usize) -> io::Result<Vec<u8>> {
        let (file, _) = self.disk.open(&name_of(number), false).map_err(failed)?;
        let bytes = self.disk.read(file, 0, most).map_err(failed)?;
        self.disk.close(file).map_err(failed)?;
        Ok(bytes)
    }

    fn cut(&mut self, number: u64, length: u64) -> io::Result<()> {
        let (file, len) = self.disk.open(&name_of(number), false).map_err(failed)?;
        if len > length {
            self.disk.truncate(file, length).map_err(failed)?;
        }
        if self.fuse {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.disk.sync(file).map_err(failed)?;
        self.disk.close(file).map_err(failed)
    }
}
