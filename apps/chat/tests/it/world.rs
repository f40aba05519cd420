//! Three shards with chat, the mail between them in order per pair and in no order else, and disks that take their time.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use chat::{Chat, Settings, Shared, rate::Rates};
use handler::{
    App, Close, Code, Cx, DiskOperation, Effect, FileId, Map, Message, Out, Outcome, Peer, PeerInfo, Push, ShardId,
    Ticket, Timer,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use topic::{
    Limits, Mail,
    journal::{Segments, name_of, number_of},
    snapshot::{self, Share, Snapshot},
};

pub(crate) const SHARDS: u16 = 3;

/// A disk whose operations end when they are told to. What was not over when the power goes has not happened.
#[derive(Default)]
struct Disk {
    files: BTreeMap<String, Vec<u8>>,
    open: Vec<String>,
    under_way: VecDeque<(Ticket, DiskOperation)>,
    /// There is no space: nothing is written.
    full: bool,
}

struct Node {
    chat: Chat,
    out: Out<Mail>,
    arena: BytesMut,
    rng: StdRng,
    disk: Option<Disk>,
    timers: BTreeMap<Timer, Instant>,
    peers: u32,
}

/// What a client was told and has not looked at.
struct Client {
    shard: usize,
    peer: Peer,
    told: Vec<Push>,
}

pub(crate) struct World {
    nodes: Vec<Node>,
    boxes: BTreeMap<(usize, usize), VecDeque<Mail>>,
    clients: Vec<Client>,
    pub(crate) shared: Arc<Shared>,
    settings: Settings,
    pub(crate) limits: Limits,
    /// Topics that are acknowledged from memory, whatever disks there are.
    pub(crate) in_memory: Vec<String>,
    map: Map,
    now: Instant,
    pub(crate) wall_ms: u64,
    rng: StdRng,
    ids: u32,
}

/// A message that was heard: topic, offset, who wrote it, and its body.
pub(crate) type Heard = (String, u64, String, Value);

impl World {
    /// With these accounts, and a journal or none.
    pub(crate) fn new(seed: u64, durable: bool, users: &[&str]) -> Self {
        Self::with(seed, durable, users, Settings { rates: Rates::OFF, ..Settings::default() })
    }

    /// Of each topic so many messages are in memory.
    pub(crate) fn small(seed: u64, durable: bool, users: &[&str], history_records_max: usize) -> Self {
        let settings = Settings { rates: Rates::OFF, ..Settings::default() };
        Self::with_limits(seed, durable, users, (settings, Limits { history_records_max, ..Limits::default() }))
    }

    pub(crate) fn with(seed: u64, durable: bool, users: &[&str], settings: Settings) -> Self {
        Self::with_limits(seed, durable, users, (settings, Limits::default()))
    }

    /// With so many places for topics on each shard.
    pub(crate) fn of_places(seed: u64, durable: bool, users: &[&str], settings: Settings, topics_max: usize) -> Self {
        Self::with_limits(seed, durable, users, (settings, Limits { topics_max, ..Limits::default() }))
    }

    /// With topics that are acknowledged from memory although there are disks.
    pub(crate) fn in_memory(seed: u64, users: &[&str], limits: Limits, in_memory: &[&str]) -> Self {
        let settings = Settings { rates: Rates::OFF, ..Settings::default() };
        let mut world = Self::with_limits(seed, true, users, (settings, limits));
        world.in_memory = in_memory.iter().map(|name| (*name).to_owned()).collect();
        world.crash();
        world.run();
        world
    }

    pub(crate) fn with_limits(
        seed: u64,
        durable: bool,
        users: &[&str],
        (settings, limits): (Settings, Limits),
    ) -> Self {
        let shared = Arc::new(Shared::default());
        users.iter().for_each(|user| shared.people.add(user));
        let mut world = Self {
            nodes: Vec::new(),
            boxes: BTreeMap::new(),
            clients: Vec::new(),
            shared,
            settings,
            limits,
            in_memory: Vec::new(),
            map: Map::even(SHARDS),
            now: Instant::now(),
            wall_ms: 1_000_000,
            rng: StdRng::seed_from_u64(seed),
            ids: 0,
        };
        let disks = (0..SHARDS).map(|_| durable.then(Disk::default)).collect();
        world.start(disks);
        world.run();
        world
    }

    fn start(&mut self, disks: Vec<Option<Disk>>) {
        for (shard, mut disk) in (0_u16..).zip(disks) {
            // Segments of some size, so that memory is not filled with nothing.
            let limits = Limits { segment_bytes: 64 * 1024, ..self.limits };
            let mut chat = Chat::new(limits, self.settings, Arc::clone(&self.shared), 7);
            if let Some(disk) = &mut disk {
                chat.recover((ShardId(shard), 9), self.in_memory.clone(), disk).expect("what was written is whole");
            }
            let rng = StdRng::seed_from_u64(self.rng.random());
            let (out, timers) = (Out::default(), BTreeMap::new());
            self.nodes.push(Node { chat, out, arena: BytesMut::new(), rng, disk, timers, peers: 0 });
        }
        for shard in 0..self.nodes.len() {
            self.call(shard, |chat, cx| chat.on_start(cx));
        }
    }

    /// Everything stops; what is on the disks is there again.
    pub(crate) fn crash(&mut self) {
        self.boxes.clear();
        self.clients.iter_mut().for_each(|client| client.shard = usize::MAX);
        let disks = std::mem::take(&mut self.nodes)
            .into_iter()
            .map(|node| node.disk)
            .map(|disk| disk.map(|disk| Disk { files: disk.files, ..Disk::default() }));
        let disks = disks.collect();
        self.start(disks);
    }

    /// The server stops in order and starts again: what is in memory is handed over.
    pub(crate) fn restart(&mut self) {
        let shares: Vec<Share> = self.nodes.iter_mut().map(|node| node.chat.hand_over()).collect();
        self.run();
        let mut bytes = snapshot::head(&shares).to_vec();
        shares.iter().for_each(|share| bytes.extend_from_slice(share.bytes()));
        let snapshot = Snapshot::read(bytes).expect("it was just written");
        self.crash();
        for (shard, node) in self.nodes.iter_mut().enumerate() {
            let map = &self.map;
            node.chat.take_up(&snapshot, |topic| usize::from(map.home(topic).0) == shard);
        }
        self.run();
    }

    /// A shard's disk takes nothing more, or does again.
    pub(crate) fn fill_disk(&mut self, shard: usize, full: bool) {
        if let Some(disk) = &mut self.nodes[shard].disk {
            disk.full = full;
        }
    }

    /// How many facts there are about messages of topics whose names begin so.
    pub(crate) fn facts_about(&self, beginning: &str) -> usize {
        let of = |node: &Node| {
            let named = ["instead/", "edits/"].into_iter().flat_map(|kind| node.chat.topics().named(kind));
            named.filter(|(name, _)| name.starts_with(beginning)).count()
        };
        self.nodes.iter().map(of).sum()
    }

    /// How many facts there are whose keys begin so, of all names.
    pub(crate) fn facts_named(&self, beginning: &str) -> usize {
        self.nodes.iter().map(|node| node.chat.topics().named(beginning).len()).sum()
    }

    /// The server is asked to stop: no message is taken any more.
    pub(crate) fn stop_taking(&mut self) {
        self.nodes.iter_mut().for_each(|node| drop(node.chat.hand_over()));
    }

    /// Two users become contacts.
    pub(crate) fn befriend(&mut self, a: &str, b: &str) {
        let (one, other) = (self.enter(a), self.enter(b));
        self.ask(one, "contact.request", serde_json::json!({"user": b})).expect("asked");
        self.ask(other, "contact.accept", serde_json::json!({"user": a})).expect("accepted");
    }

    /// No disk takes anything, or all do again.
    pub(crate) fn fill_disks(&mut self, full: bool) {
        self.nodes.iter_mut().filter_map(|node| node.disk.as_mut()).for_each(|disk| disk.full = full);
    }

    pub(crate) fn enter(&mut self, user: &str) -> usize {
        self.enter_as(user, false)
    }

    pub(crate) fn enter_as(&mut self, user: &str, guest: bool) -> usize {
        let shard = self.rng.random_range(0..self.nodes.len());
        let peer = Peer { index: self.nodes[shard].peers, generation: 1 };
        self.nodes[shard].peers += 1;
        let device = format!("device-{}", self.clients.len());
        let info = PeerInfo { user: user.into(), device: device.as_str().into(), guest };
        self.call(shard, |chat, cx| chat.on_open(cx, peer, &info));
        self.clients.push(Client { shard, peer, told: Vec::new() });
        self.clients.len() - 1
    }

    pub(crate) fn shard_of(&self, client: usize) -> usize {
        self.clients[client].shard
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// A session ends.
    pub(crate) fn leave(&mut self, client: usize) {
        let Client { shard, peer, .. } = self.clients[client];
        self.call(shard, |chat, cx| chat.on_close(cx, peer, Close::PeerLeft));
    }

    /// Says something, without waiting for anything.
    pub(crate) fn say(&mut self, client: usize, message: impl FnOnce(u32) -> Message<'static>) -> u32 {
        self.ids += 1;
        let (id, Client { shard, peer, .. }) = (self.ids, &self.clients[client]);
        let (shard, peer) = (*shard, *peer);
        let message = message(id);
        self.call(shard, |chat, cx| chat.on_message(cx, peer, message));
        id
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, client: usize, op: &'static str, body: Value) -> Result<Value, Code> {
        self.full_ask(client, op, body).map_err(|(code, _)| code)
    }

    pub(crate) fn full_ask(&mut self, client: usize, op: &'static str, body: Value) -> Result<Value, (Code, String)> {
        let id = self.start_ask(client, op, body);
        self.run();
        match self.answer(client, id) {
            Push::Res { body, .. } => Ok(serde_json::from_slice(&body).expect("JSON")),
            Push::Err { code, message, .. } => Err((code, message)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn start_ask(&mut self, client: usize, op: &'static str, body: Value) -> u32 {
        let body = leak(&body);
        self.say(client, |id| Message::Req { id, op, body })
    }

    pub(crate) fn publish(&mut self, client: usize, topic: &str, body: Value) -> Result<u64, Code> {
        self.publish_seq(client, topic, None, body).map_err(|(code, _)| code)
    }

    pub(crate) fn publish_seq(
        &mut self,
        client: usize,
        topic: &str,
        seq: Option<u64>,
        body: Value,
    ) -> Result<u64, (Code, Option<u32>)> {
        let (topic, body): (&'static str, _) = (String::leak(topic.to_owned()), leak(&body));
        let id = self.say(client, |id| Message::Pub { id, topic, seq, body });
        self.run();
        match self.answer(client, id) {
            Push::PubOk { offset, .. } => Ok(offset),
            Push::Err { code, retry_ms, .. } => Err((code, retry_ms)),
            other => panic!("{other:?}"),
        }
    }

    /// Subscribes; gives the head.
    pub(crate) fn subscribe(&mut self, client: usize, topic: &str, after: Option<u64>) -> Result<u64, Code> {
        let topic: &'static str = String::leak(topic.to_owned());
        let id = self.say(client, |id| Message::Sub { id, topic, epoch: None, after });
        self.run();
        match self.answer(client, id) {
            Push::SubOk { head, .. } => Ok(head),
            Push::Err { code, .. } => Err(code),
            other => panic!("{other:?}"),
        }
    }

    /// Whether a question has its answer.
    pub(crate) fn is_answered(&self, client: usize, id: u32) -> bool {
        let is = |push: &Push| match push {
            Push::Res { id: of, .. } => *of == id,
            Push::Err { id: of, .. } => *of == Some(id),
            _ => false,
        };
        self.clients[client].told.iter().any(is)
    }

    fn answer(&mut self, client: usize, id: u32) -> Push {
        let answers = |push: &Push| match push {
            Push::SubOk { id: of, .. } | Push::PubOk { id: of, .. } | Push::Res { id: of, .. } => *of == id,
            Push::Err { id: of, .. } => *of == Some(id),
            _ => false,
        };
        let told = &mut self.clients[client].told;
        let place = told.iter().position(answers).expect("an answer");
        told.remove(place)
    }

    /// The messages that a client was told since it last looked.
    pub(crate) fn heard(&mut self, client: usize) -> Vec<Heard> {
        let told = std::mem::take(&mut self.clients[client].told);
        let heard = told.into_iter().filter_map(|push| match push {
            Push::Msg { topic, offset, from, body, .. } => {
                Some((topic.to_string(), offset, from.to_string(), serde_json::from_slice(&body).expect("JSON")))
            }
            _ => None,
        });
        heard.collect()
    }

    /// All that a client was told since it last looked.
    pub(crate) fn told(&mut self, client: usize) -> Vec<Push> {
        std::mem::take(&mut self.clients[client].told)
    }

    /// Until nothing more happens by itself.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// One thing happens: a letter arrives, or a disk is done with something.
    pub(crate) fn step(&mut self) -> bool {
        let pairs: Vec<(usize, usize)> =
            self.boxes.iter().filter(|(_, mail)| !mail.is_empty()).map(|(k, _)| *k).collect();
        if !pairs.is_empty() && self.rng.random_bool(0.8) {
            let (from, to) = pairs[self.rng.random_range(0..pairs.len())];
            let mail = self.boxes.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("not empty");
            self.call(to, |chat, cx| chat.on_mail(cx, ShardId(from as u16), mail));
            return true;
        }
        (0..self.nodes.len()).for_each(|shard| self.call(shard, |chat, cx| chat.on_turn_end(cx)));
        let busy = |node: &Node| node.disk.as_ref().is_some_and(|disk| !disk.under_way.is_empty());
        let disks: Vec<usize> = (0..self.nodes.len()).filter(|shard| busy(&self.nodes[*shard])).collect();
        if disks.is_empty() {
            return !pairs.is_empty();
        }
        let shard = disks[self.rng.random_range(0..disks.len())];
        let (ticket, outcome) = self.nodes[shard].disk.as_mut().map(Disk::finish).expect("a disk");
        self.call(shard, |chat, cx| chat.on_disk(cx, ticket, outcome));
        true
    }

    /// Time passes, and timers with it.
    pub(crate) fn later(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.wall_ms += ms;
        for shard in 0..self.nodes.len() {
            let due: Vec<Timer> =
                self.nodes[shard].timers.iter().filter(|(_, at)| **at <= self.now).map(|(timer, _)| *timer).collect();
            for timer in due {
                self.nodes[shard].timers.remove(&timer);
                self.call(shard, |chat, cx| chat.on_timer(cx, timer));
            }
        }
        self.run();
    }

    fn call(&mut self, shard: usize, work: impl FnOnce(&mut Chat, &mut Cx<'_, Mail>)) {
        let Some(Node { chat, out, arena, rng, .. }) = self.nodes.get_mut(shard) else { return };
        let here = ShardId(shard as u16);
        let mut cx = Cx { now: self.now, wall_ms: self.wall_ms, shard: here, rng, map: &self.map, arena, out };
        work(chat, &mut cx);
        let out = std::mem::take(&mut self.nodes[shard].out);
        for effect in out.effects {
            match effect {
                Effect::Mail { to, mail } => {
                    self.boxes.entry((shard, usize::from(to.0))).or_default().push_back(mail);
                }
                Effect::Send { peer, push } => self.tell(shard, peer, push),
                Effect::Publish { peers, push } => {
                    out.peers[peers].iter().for_each(|peer| self.tell(shard, *peer, push.clone()));
                }
                Effect::WakeAt { timer, at } => drop(self.nodes[shard].timers.insert(timer, at)),
                Effect::Disk { ticket, operation } => {
                    let disk = self.nodes[shard].disk.as_mut().expect("a disk");
                    disk.under_way.push_back((ticket, operation));
                }
                Effect::Close { .. } => {}
            }
        }
    }

    fn tell(&mut self, shard: usize, peer: Peer, push: Push) {
        let client = self.clients.iter_mut().find(|client| (client.shard, client.peer) == (shard, peer));
        if let Some(client) = client {
            client.told.push(push);
        }
    }
}

fn leak(body: &Value) -> &'static [u8] {
    body.to_string().into_bytes().leak()
}

impl Disk {
    fn finish(&mut self) -> (Ticket, Outcome) {
        let (ticket, operation) = self.under_way.pop_front().expect("busy");
        let outcome = match operation {
            DiskOperation::Allocate { .. } | DiskOperation::Write { .. } if self.full => {
                Outcome::Failed(io::ErrorKind::StorageFull.into())
            }
            DiskOperation::Open { name, create } => {
                if create {
                    self.files.entry(name.clone()).or_default();
                }
                let len = self.files.get(&name).map_or(0, Vec::len) as u64;
                self.open.push(name);
                Outcome::Opened { file: FileId(self.open.len() as u32 - 1), len }
            }
            DiskOperation::Allocate { file, bytes } => {
                let content = self.content(file);
                let length = content.len().max(bytes as usize);
                content.resize(length, 0);
                Outcome::Done
            }
            DiskOperation::Read { file, offset, len } => {
                let content = self.content(file);
                let end = (offset as usize + len).min(content.len());
                Outcome::Read(Bytes::copy_from_slice(&content[(offset as usize).min(end)..end]))
            }
            DiskOperation::Write { .. } if self.full => Outcome::Failed(io::ErrorKind::StorageFull.into()),
            DiskOperation::Write { file, offset, bytes } | DiskOperation::Fill { file, offset, bytes } => {
                let (content, end) = (self.content(file), offset as usize + bytes.len());
                let length = content.len().max(end);
                content.resize(length, 0);
                content[offset as usize..end].copy_from_slice(&bytes);
                Outcome::Done
            }
            DiskOperation::Close { .. } => Outcome::Done,
            DiskOperation::Rename { from, to } => {
                let content = self.files.remove(&from).unwrap_or_default();
                self.files.insert(to.clone(), content);
                self.open.iter_mut().filter(|name| **name == from).for_each(|name| name.clone_from(&to));
                Outcome::Done
            }
            DiskOperation::Remove { name } => {
                self.files.remove(&name);
                Outcome::Done
            }
        };
        (ticket, outcome)
    }

    fn content(&mut self, file: FileId) -> &mut Vec<u8> {
        self.files.entry(self.open[file.0 as usize].clone()).or_default()
    }
}

impl Segments for Disk {
    fn numbers(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.files.keys().filter_map(|name| number_of(name)).collect())
    }

    fn read(&mut self, number: u64, most: usize) -> io::Result<Vec<u8>> {
        let content = self.files.get(&name_of(number)).ok_or(io::ErrorKind::NotFound)?;
        Ok(content[..most.min(content.len())].to_vec())
    }

    fn cut(&mut self, number: u64, length: u64) -> io::Result<()> {
        let content = self.files.get_mut(&name_of(number)).ok_or(io::ErrorKind::NotFound)?;
        content.truncate(length as usize);
        Ok(())
    }
}
