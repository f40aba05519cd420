//! The world: shards, mail, time and dice from one seed.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use handler::{Cx, Effect, Map, Message, Out, Peer, PeerInfo, Pressure, Push, ShardId, Timer};
use rand::{Rng, SeedableRng, rngs::StdRng};
use topic::{Limits, Mail, News, Page, Topics};

use crate::client::{Ask, Device, Line, weight};

/// What has been seen anywhere: what everybody must agree on.
#[derive(Default)]
pub(crate) struct Truth {
    /// By topic and offset.
    log: BTreeMap<(String, u64), (String, u64, Bytes)>,
    heads: BTreeMap<String, u64>,
    epochs: BTreeMap<String, u64>,
    places: BTreeMap<(String, String, String, u64), u64>,
    gaps: Vec<(String, u64)>,
    records_max: u64,
}

impl Truth {
    pub(crate) fn see(&mut self, topic: &str, offset: u64, from: &str, at_ms: u64, body: &[u8]) {
        let new = (from.to_owned(), at_ms, Bytes::copy_from_slice(body));
        let old = self.log.entry((topic.to_owned(), offset)).or_insert_with(|| new.clone());
        assert_eq!(*old, new, "two orders in {topic}");
        assert!(str::from_utf8(body).expect("a text").starts_with(&format!("{from} ")), "somebody else's name");
        self.see_head(topic, offset);
    }

    pub(crate) fn see_head(&mut self, topic: &str, head: u64) {
        let seen = self.heads.entry(topic.to_owned()).or_default();
        *seen = head.max(*seen);
    }

    /// A topic that never had a message may be forgotten between two subscriptions; one that had keeps its epoch.
    pub(crate) fn see_epoch(&mut self, topic: &str, epoch: u64, head: u64) {
        if head > 0 {
            let seen = *self.epochs.entry(topic.to_owned()).or_insert(epoch);
            assert_eq!(seen, epoch, "the history of {topic} was lost");
        }
    }

    pub(crate) fn see_place(&mut self, topic: &str, (user, device, seq): (&str, &str, u64), offset: u64) {
        let key = (topic.to_owned(), user.to_owned(), device.to_owned(), seq);
        let first = *self.places.entry(key).or_insert(offset);
        let forgotten = offset.min(first) + self.records_max <= offset.max(first);
        assert!(first == offset || forgotten, "published twice: {first} and {offset}");
    }

    pub(crate) fn see_gap(&mut self, topic: &str, first: u64) {
        self.gaps.push((topic.to_owned(), first));
    }

    fn check_gaps(&self) {
        for (topic, first) in &self.gaps {
            assert!(first + self.records_max - 1 <= self.heads[topic], "a gap in {topic} with all of it held");
        }
    }
}

struct Shard {
    topics: Topics,
    out: Out<Mail>,
    arena: BytesMut,
    rng: StdRng,
    timers: BTreeMap<Timer, Instant>,
    slots: Vec<u32>,
    free: Vec<u32>,
}

/// Shards, their mail, their clients.
pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) devices: Vec<Device>,
    pub(crate) truth: Truth,
    /// Whether connections lag for no reason.
    pub(crate) moody: bool,
    pub(crate) pushes: u64,
    pub(crate) laggings: u64,
    /// Pushes that were not queued.
    pub(crate) drops: u64,
    pub(crate) pages: Vec<Page>,
    limits: Limits,
    start: Instant,
    now: Instant,
    map: Map,
    shards: Vec<Shard>,
    boxes: Vec<VecDeque<Mail>>,
    /// Who is at a shard's slot.
    seats: BTreeMap<(usize, Peer), usize>,
    lines: u64,
    hash: DefaultHasher,
}

/// The soft limit of a connection's queue: above what one chunk or one set of ephemeral values weighs.
const QUEUE_SOFT: usize = 40_000;

impl World {
    pub(crate) fn new(seed: u64, shards: u16, limits: Limits) -> Self {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let shards: Vec<Shard> = (0..shards).map(|_| Shard::new(limits, &mut rng)).collect();
        Self {
            map: Map::even(shards.len() as u16),
            boxes: (0..shards.len() * shards.len()).map(|_| VecDeque::new()).collect(),
            truth: Truth { records_max: limits.history_records_max as u64, ..Truth::default() },
            devices: Vec::new(),
            seats: BTreeMap::new(),
            hash: DefaultHasher::new(),
            pages: Vec::new(),
            moody: false,
            pushes: 0,
            laggings: 0,
            drops: 0,
            lines: 0,
            limits,
            start,
            now: start,
            shards,
            rng,
        }
    }
    /// A device of a user that connects now and then.
    pub(crate) fn add_device(&mut self, user: &str, name: &str) -> usize {
        self.devices.push(Device { user: user.to_owned(), name: name.to_owned(), ..Device::default() });
        self.devices.len() - 1
    }

    pub(crate) fn connect(&mut self, device: usize, shard: usize, slow: bool) {
        self.lines += 1;
        let seat = &mut self.shards[shard];
        let index = seat.free.pop().unwrap_or_else(|| {
            seat.slots.push(0);
            seat.slots.len() as u32 - 1
        });
        let peer = Peer { index, generation: seat.slots[index as usize] };
        let who = &mut self.devices[device];
        let info = PeerInfo { user: who.user.as_str().into(), device: who.name.as_str().into(), guest: false };
        who.line = Some(Line::new(self.lines, shard, peer, slow));
        self.seats.insert((shard, peer), device);
        self.call(shard, |topics, _| topics.on_open(peer, &info));
    }

    pub(crate) fn disconnect(&mut self, device: usize) {
        let Some(line) = self.devices[device].line.take() else { return };
        self.seats.remove(&(line.shard, line.peer));
        self.shards[line.shard].slots[line.peer.index as usize] += 1;
        self.shards[line.shard].free.push(line.peer.index);
        self.call(line.shard, |topics, cx| topics.on_close(cx, line.peer));
    }

    /// A device says something.
    pub(crate) fn say(&mut self, device: usize, message: Message<'_>) {
        let Some((shard, peer)) = self.seat(device) else { return };
        self.call(shard, |topics, cx| topics.on_message(cx, peer, message));
    }

    pub(crate) fn ask(&mut self, device: usize, ask: Ask) {
        let Some(line) = &mut self.devices[device].line else { return };
        let id = line.ask(ask.clone());
        let line = line.number;
        match &ask {
            Ask::Sub { topic, epoch, after, .. } => {
                self.say(device, Message::Sub { id, topic, epoch: *epoch, after: *after });
            }
            Ask::Unsub { topic } => self.say(device, Message::Unsub { id, topic }),
            Ask::Pub { topic, seq } => {
                let who = &self.devices[device];
                let word = seq.map_or_else(|| format!("{line}.{id}"), |seq| seq.to_string());
                let mut body = format!("{} {} {topic} {word} ", who.user, who.name);
                // The same publication has the same body each time, whatever the dice say.
                let filler = seq.map_or(40, |seq| (seq * 997 % 3_000) as usize);
                body.extend(std::iter::repeat_n('x', filler));
                self.say(device, Message::Pub { id, topic, seq: *seq, body: body.as_bytes() });
            }
        }
    }

    pub(crate) fn wave(&mut self, device: usize, topic: &str) {
        let who = &mut self.devices[device];
        let Some(line) = &who.line else { return };
        who.eph += 1;
        let (key, body) = (format!("key-{}", line.number), format!("{} {}", line.number, who.eph));
        self.say(device, Message::Eph { topic, key: &key, body: body.as_bytes() });
    }

    pub(crate) fn browse(&mut self, device: usize, topic: &str, before: Option<u64>, limit: u32) {
        let Some((shard, peer)) = self.seat(device) else { return };
        self.devices[device].pages += 1;
        self.call(shard, |topics, cx| topics.browse(cx, (peer, 0), topic, before, limit));
    }

    /// Delivers one letter of some pair of shards; whether there was one.
    pub(crate) fn deliver(&mut self) -> bool {
        let waiting = self.boxes.iter().filter(|letters| !letters.is_empty()).count();
        if waiting == 0 {
            return false;
        }
        let pick = self.rng.random_range(0..waiting);
        let full = (0..self.boxes.len()).filter(|pair| !self.boxes[*pair].is_empty()).nth(pick);
        let pair = full.expect("counted");
        let mail = self.boxes[pair].pop_front().expect("not empty");
        let (from, to) = (pair / self.shards.len(), pair % self.shards.len());
        let news = self.call(to, |topics, cx| topics.on_mail(cx, ShardId(from as u16), mail));
        if let Some(News::Page(page)) = news {
            self.see_page(&page);
            self.pages.push(page);
        }
        true
    }

    /// A client reads up to `count` pushes; its queue may be empty after that.
    pub(crate) fn read(&mut self, device: usize, count: usize) {
        for _ in 0..count {
            let who = &mut self.devices[device];
            let Some(push) = who.line.as_mut().and_then(|line| line.inbox.pop_front()) else { break };
            who.line.as_mut().expect("connected").queued -= weight(&push);
            digest(&mut self.hash, device, &push);
            self.pushes += 1;
            who.read(&mut self.truth, &push);
        }
        let Some(line) = &mut self.devices[device].line else { return };
        if line.lagging && line.queued == 0 {
            line.lagging = false;
            let (shard, peer) = (line.shard, line.peer);
            self.call(shard, |topics, cx| topics.on_pressure(cx, peer, Pressure::Drained));
        }
    }

    /// A connection's queue is said to be in this state, whatever it holds.
    pub(crate) fn press(&mut self, device: usize, pressure: Pressure) {
        let Some((shard, peer)) = self.seat(device) else { return };
        if let Some(line) = &mut self.devices[device].line {
            line.lagging = pressure != Pressure::Drained;
        }
        self.call(shard, |topics, cx| topics.on_pressure(cx, peer, pressure));
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        for shard in 0..self.shards.len() {
            let now = self.now;
            while let Some((timer, _)) =
                self.shards[shard].timers.iter().map(|(t, at)| (*t, *at)).find(|(_, at)| *at <= now)
            {
                self.shards[shard].timers.remove(&timer);
                self.call(shard, |topics, cx| topics.on_timer(cx, timer));
            }
        }
    }

    /// Everything that is on its way arrives, and everybody reads.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut busy = self.deliver();
            if !busy || self.rng.random_ratio(1, 20) {
                for device in 0..self.devices.len() {
                    let line = self.devices[device].line.as_ref();
                    busy |= line.is_some_and(|line| line.lagging || !line.inbox.is_empty());
                    self.read(device, 50);
                }
            }
            if !busy {
                return;
            }
        }
        panic!("the world never comes to rest");
    }

    pub(crate) fn topics(&self, shard: usize) -> &Topics {
        &self.shards[shard].topics
    }

    pub(crate) fn home(&self, topic: &str) -> usize {
        usize::from(self.map.home(topic).0)
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn letters(&self) -> usize {
        self.boxes.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// What must hold at any time.
    pub(crate) fn check_bounds(&self) {
        for shard in &self.shards {
            let size = shard.topics.size();
            assert!(size.topics <= self.limits.topics_max, "{size:?}");
            assert!(size.listening <= self.limits.listening_max, "{size:?}");
            assert!(size.history_bytes <= self.limits.history_total_bytes_max, "{size:?}");
            // One more for the marks of the whole shard.
            assert!(size.chores <= size.topics + size.listening + 1, "{size:?}");
        }
    }

    /// What must hold at rest.
    pub(crate) fn check_rest(&self) {
        self.check_bounds();
        self.truth.check_gaps();
        let mut users: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
        for who in &self.devices {
            for topic in who.line.iter().flat_map(|line| line.subs.keys()) {
                users.entry(topic).or_default().insert(&who.user);
            }
        }
        for who in &self.devices {
            let Some(line) = &who.line else { continue };
            assert!(line.asks.is_empty(), "never answered: {:?}", line.asks);
            for (topic, sub) in &line.subs {
                let head = self.truth.heads.get(topic).copied().unwrap_or(0);
                assert_eq!(sub.next, head + 1, "{} misses the end of {topic}", line.number);
                assert_eq!(sub.count, Some(users[&**topic].len() as u32), "presence of {topic} at {}", line.number);
            }
        }
    }

    fn seat(&self, device: usize) -> Option<(usize, Peer)> {
        self.devices[device].line.as_ref().map(|line| (line.shard, line.peer))
    }

    fn call<R>(&mut self, shard: usize, work: impl FnOnce(&mut Topics, &mut Cx<'_, Mail>) -> R) -> R {
        let (now, wall_ms) = (self.now, (self.now - self.start).as_millis() as u64);
        let Shard { topics, out, arena, rng, .. } = &mut self.shards[shard];
        let mut cx = Cx { now, wall_ms, shard: ShardId(shard as u16), rng, map: &self.map, arena, out };
        let result = work(topics, &mut cx);
        self.apply(shard);
        result
    }

    fn apply(&mut self, shard: usize) {
        let out = std::mem::take(&mut self.shards[shard].out);
        for effect in out.effects {
            match effect {
                Effect::Send { peer, push } => self.queue(shard, peer, push),
                Effect::Publish { peers, push } => {
                    for peer in &out.peers[peers] {
                        self.queue(shard, *peer, push.clone());
                    }
                }
                Effect::Mail { to, mail } => {
                    self.boxes[shard * self.shards.len() + usize::from(to.0)].push_back(mail);
                }
                Effect::WakeAt { timer, at } => {
                    self.shards[shard].timers.insert(timer, at);
                }
                Effect::Disk { .. } => panic!("there is no journal"),
                Effect::Close { .. } => panic!("topics close nobody"),
            }
        }
    }

    fn queue(&mut self, shard: usize, peer: Peer, push: Push) {
        let Some(device) = self.seats.get(&(shard, peer)) else { return };
        let line = self.devices[*device].line.as_mut().expect("seated");
        let yields = match &push {
            Push::Msg { alias, offset, .. } => Some((*alias, Some(*offset))),
            Push::Eph { alias, .. } => Some((*alias, None)),
            _ => None,
        };
        if let Some((alias, offset)) = yields {
            let mood = self.moody && line.slow && self.rng.random_ratio(1, 8);
            if !line.lagging && (mood || line.queued >= QUEUE_SOFT) {
                line.lagging = true;
                self.laggings += 1;
            }
            if line.lagging {
                self.drops += 1;
                return self
                    .call(shard, |topics, cx| topics.on_pressure(cx, peer, Pressure::Lagging { alias, offset }));
            }
        }
        line.queued += weight(&push);
        line.inbox.push_back(push);
    }

    fn see_page(&mut self, page: &Page) {
        let mut next = None;
        for record in page.records() {
            assert!(record.offset <= page.head && next.is_none_or(|next| next == record.offset));
            next = Some(record.offset + 1);
            self.truth.see(&page.topic, record.offset, record.from, record.at_ms, record.body);
        }
    }
}

impl Shard {
    fn new(limits: Limits, rng: &mut StdRng) -> Self {
        Self {
            topics: Topics::new(limits, rng.random()),
            out: Out::default(),
            arena: BytesMut::new(),
            rng: StdRng::seed_from_u64(rng.random()),
            timers: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

pub(crate) fn digest(hash: &mut DefaultHasher, device: usize, push: &Push) {
    device.hash(hash);
    std::mem::discriminant(push).hash(hash);
    match push {
        Push::SubOk { id, topic, alias, epoch, head } => (id, topic, alias, epoch, head).hash(hash),
        Push::UnsubOk { id, topic } => (id, topic).hash(hash),
        Push::PubOk { id, topic, offset, .. } => (id, topic, offset).hash(hash),
        Push::Res { id, body } => (id, body).hash(hash),
        Push::Err { id, message, .. } => (id, message).hash(hash),
        Push::Msg { topic, alias, offset, from, at_ms, body } => (topic, alias, offset, from, at_ms, body).hash(hash),
        Push::Eph { topic, alias, from, key, body } => (topic, alias, from, key, body).hash(hash),
        Push::Presence { topic, alias, joined, left, count } => (topic, alias, joined, left, count).hash(hash),
        Push::Gap { topic, alias, first } => (topic, alias, first).hash(hash),
    }
}
