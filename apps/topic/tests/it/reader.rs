//! Who uses a machine that loses its power: clients that publish, repeat what was not answered, read, lag and come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use handler::{Code, Level, Message, Peer, PeerInfo, Push};
use rand::Rng;
use topic::{Change, Limits, Page, Topics};

use crate::{
    disk::{Heard, Machine, Stop, disk_config},
    oracle::{Ledger, Oracle, RECALLED},
    power::{NAMES, TOPICS},
};

/// Somebody's device.
pub(crate) struct Client {
    user: &'static str,
    device: &'static str,
    /// Where it is connected, if it is.
    line: Option<(usize, Peer)>,
    connections: u32,
    lagging: bool,
    ids: u32,
    asks: BTreeMap<u32, Ask>,
    /// By topic: what comes next, and the head when it was subscribed to.
    subs: BTreeMap<String, (u64, u64)>,
    /// By topic: epoch and last offset, over all connections.
    marks: BTreeMap<String, (u64, u64)>,
    seqs: BTreeMap<String, u64>,
    unanswered: BTreeSet<(String, u64)>,
}

enum Ask {
    Sub { topic: String, epoch: Option<u64>, after: Option<u64> },
    Pub { topic: String, seq: Option<u64>, body: String },
}

/// A machine, its users, and what they know.
pub(crate) struct Story {
    pub(crate) machine: Machine,
    pub(crate) oracle: Oracle,
    /// Whether the disk may fail.
    pub(crate) troubled: bool,
    /// Whether there may be too many topics.
    pub(crate) crowded: bool,
    pub(crate) clients: Vec<Client>,
    ledgers: Vec<Ledger>,
    tokens: u64,
    /// By token: messages that are being taken back: topic, and of each epoch and offset.
    recalls: BTreeMap<u64, (String, Vec<(u64, u64)>)>,
    /// By shard: the bytes of the journal that were needed at rest, until something happens.
    live_bytes: Option<Vec<u64>>,
    pub(crate) refused: u64,
    pub(crate) gaps: u64,
    pub(crate) msgs: u64,
}

/// The one who reads everything.
const AUDITOR: usize = 0;
const USERS: [(&str, &str); 7] = [
    ("auditor", "desk"),
    ("ada", "laptop"),
    ("ada", "phone"),
    ("bob", "laptop"),
    ("cy", "laptop"),
    ("cy", "phone"),
    ("dee", "tablet"),
];

impl Story {
    pub(crate) fn new(seed: u64, shards: u16, limits: Limits, trims: bool) -> Self {
        Self {
            machine: Machine::new(seed, shards, limits),
            oracle: Oracle::new(trims),
            troubled: false,
            crowded: false,
            clients: USERS.map(|(user, device)| Client::new(user, device)).into(),
            ledgers: (0..shards).map(|_| Ledger::default()).collect(),
            tokens: 0,
            recalls: BTreeMap::new(),
            live_bytes: None,
            refused: 0,
            gaps: 0,
            msgs: 0,
        }
    }

    /// One thing happens.
    pub(crate) fn act(&mut self) {
        self.live_bytes = None;
        let who = self.machine.rng.random_range(1..self.clients.len());
        let topic = TOPICS[self.machine.rng.random_range(0..TOPICS.len())];
        let Some(line) = self.clients[who].line else { return self.connect(who) };
        match self.machine.rng.random_range(0..100) {
            0..35 => self.publish(who, topic),
            35..40 => {
                for _ in 0..self.machine.rng.random_range(2..25) {
                    self.publish(who, topic);
                }
            }
            40..48 => self.subscribe(who, topic),
            48..50 => self.unsubscribe(who, topic),
            50..53 => self.clients[who].lag(&mut self.machine),
            53..58 => self.clients[who].drain(&mut self.machine),
            58..62 => {
                let before = self.machine.rng.random::<bool>().then(|| self.machine.rng.random_range(0..200));
                let limit = self.machine.rng.random_range(0..120);
                self.machine.browse(line, topic, before, limit);
            }
            62..66 => self.mark(who, topic),
            66..72 => self.record(),
            72..74 => self.disconnect(who),
            74 => self.repeat(who),
            75 if self.troubled => self.make_trouble(),
            77..80 => self.recall(topic),
            76 => {
                let ms = self.machine.rng.random_range(100..6_000);
                self.pass(Duration::from_millis(ms));
            }
            _ => {
                let us = self.machine.rng.random_range(0..4_000);
                self.pass(Duration::from_micros(us));
            }
        }
        self.hear();
    }

    pub(crate) fn connect(&mut self, who: usize) {
        let shard = self.machine.rng.random_range(0..self.machine.shards.len());
        let client = &mut self.clients[who];
        let peer = Peer { index: who as u32, generation: client.connections };
        client.line = Some((shard, peer));
        self.machine.open(
            shard,
            peer,
            &PeerInfo { user: client.user.into(), device: client.device.into(), guest: false },
        );
        self.repeat(who);
    }

    pub(crate) fn disconnect(&mut self, who: usize) {
        self.hear();
        if let Some((shard, peer)) = self.clients[who].line {
            self.clients[who].hang_up();
            self.machine.close(shard, peer);
        }
    }

    /// Says again what was not answered, with the same counters.
    fn repeat(&mut self, who: usize) {
        let asked = |ask: &Ask| match ask {
            Ask::Pub { topic, seq: Some(seq), .. } => Some((topic.clone(), *seq)),
            _ => None,
        };
        let client = &self.clients[who];
        let asked: BTreeSet<_> = client.asks.values().filter_map(asked).collect();
        for (topic, seq) in client.unanswered.difference(&asked).cloned().collect::<Vec<_>>() {
            self.publish_as(who, &topic, Some(seq));
        }
    }

    pub(crate) fn publish(&mut self, who: usize, topic: &str) {
        let dice = self.machine.rng.random_range(0..12);
        let last = self.clients[who].seqs.entry(topic.to_owned()).or_default();
        let seq = match dice {
            0 => None,
            // Again although it was answered, as the answer may have been lost.
            1 if *last > 0 => Some(last.saturating_sub(dice).max(1)),
            _ => {
                *last += 1;
                Some(*last)
            }
        };
        self.publish_as(who, topic, seq);
    }

    fn publish_as(&mut self, who: usize, topic: &str, seq: Option<u64>) {
        let client = &mut self.clients[who];
        let Some(line) = client.line else { return };
        client.ids += 1;
        let id = client.ids;
        let word = seq.map_or_else(|| format!("{}.{id}", client.connections), |seq| seq.to_string());
        let mut body = format!("{} {} {topic} {word} ", client.user, client.device);
        // The same publication has the same body each time, whatever the dice say.
        let filler = seq.map_or(40, |seq| match seq * 7_919 % 100 {
            0..80 => seq * 31 % 200,
            80..98 => seq * 997 % 3_000,
            _ => seq * 9_973 % 40_000,
        });
        body.extend(std::iter::repeat_n('x', filler as usize));
        if let Some(seq) = seq {
            client.unanswered.insert((topic.to_owned(), seq));
        }
        client.asks.insert(id, Ask::Pub { topic: topic.to_owned(), seq, body: body.clone() });
        self.machine.say(line, Message::Pub { id, topic, seq, body: body.as_bytes() });
    }

    fn subscribe(&mut self, who: usize, topic: &str) {
        let fresh = self.machine.rng.random_ratio(1, 6);
        let client = &mut self.clients[who];
        let asked = client.asks.values().any(|ask| matches!(ask, Ask::Sub { topic: asked, .. } if asked == topic));
        if client.subs.contains_key(topic) || asked {
            return;
        }
        let (epoch, after) = match client.marks.get(topic) {
            Some((epoch, last)) if !fresh => (Some(*epoch), Some(*last)),
            _ => (None, Some(0)),
        };
        self.subscribe_as(who, topic, epoch, after);
    }

    pub(crate) fn subscribe_from_start(&mut self, who: usize, topic: &str) {
        self.subscribe_as(who, topic, None, Some(0));
    }

    fn subscribe_as(&mut self, who: usize, topic: &str, epoch: Option<u64>, after: Option<u64>) {
        let client = &mut self.clients[who];
        let Some(line) = client.line else { return };
        client.ids += 1;
        let id = client.ids;
        client.asks.insert(id, Ask::Sub { topic: topic.to_owned(), epoch, after });
        self.machine.say(line, Message::Sub { id, topic, epoch, after });
    }

    pub(crate) fn unsubscribe(&mut self, who: usize, topic: &str) {
        self.hear();
        let client = &mut self.clients[who];
        if let Some(line) = client.line
            && client.subs.remove(topic).is_some()
        {
            client.ids += 1;
            let id = client.ids;
            self.machine.say(line, Message::Unsub { id, topic });
        }
    }

    pub(crate) fn mark(&mut self, who: usize, topic: &str) {
        let client = &self.clients[who];
        let (Some(line), Some((next, _))) = (client.line, client.subs.get(topic)) else { return };
        let delivered = next - 1;
        let read = self.machine.rng.random_range(0..=delivered);
        self.oracle.raised(topic, client.user, (delivered, read));
        self.machine.say(line, Message::Ack { topic, delivered, read });
    }

    fn record(&mut self) {
        let rng = &mut self.machine.rng;
        let name = NAMES[rng.random_range(0..NAMES.len())];
        let token = self.tokens;
        let mut change = |_| {
            let value = rng.random_ratio(4, 5).then(|| {
                let long = if rng.random_ratio(1, 20) { 9_000 } else { 60 };
                let filler = rng.random_range(0..long);
                format!("{token} {}", "y".repeat(filler)).into()
            });
            Change { key: format!("f/{}", rng.random_range(0..4)), value }
        };
        let changes: Vec<Change> = (0..1 + token % 3).map(&mut change).collect();
        self.record_as(name, &changes);
    }

    /// Takes a few messages back, and what was said of a few that are gone.
    fn recall(&mut self, topic: &str) {
        self.hear();
        let home = self.machine.home(topic);
        let topics = &self.machine.shards[home].topics;
        let newest = topics.tail(topic).head;
        if newest == 0 {
            return;
        }
        let offsets: Vec<u64> = (0..3).map(|_| self.machine.rng.random_range(1..=newest)).collect();
        let of = |offset: &u64| Some((*offset, topics.instead(topic, *offset, RECALLED)?));
        let recalls: BTreeMap<u64, Change> = offsets.iter().filter_map(of).collect();
        let mut changes = topics.stale_facts(topic, 4);
        changes.retain(|change| recalls.values().all(|recall| recall.key != change.key));
        changes.extend(recalls.values().cloned());
        let epoch = |change: &Change| {
            let value = change.value.as_ref().and_then(|value| value.first_chunk());
            u64::from_le_bytes(*value.expect("it begins with an epoch"))
        };
        let recalls: Vec<(u64, u64)> = recalls.iter().map(|(offset, change)| (epoch(change), *offset)).collect();
        recalls.iter().for_each(|recall| self.oracle.recalls(topic, *recall, false));
        self.tokens += 1;
        let token = self.tokens;
        self.ledgers[home].recorded(token, topic, &[]);
        if self.machine.record(topic, &changes, token) {
            self.recalls.insert(token, (topic.to_owned(), recalls));
        } else {
            assert!(self.troubled, "refused without trouble");
            self.ledgers[home].settled(token, false);
        }
    }

    pub(crate) fn record_as(&mut self, name: &str, changes: &[Change]) {
        self.hear();
        self.tokens += 1;
        let (home, token) = (self.machine.home(name), self.tokens);
        self.ledgers[home].recorded(token, name, changes);
        if !self.machine.record(name, changes, token) {
            assert!(self.troubled, "refused without trouble");
            self.ledgers[home].settled(token, false);
        }
    }

    /// Something is wrong with a disk, or is not any more.
    fn make_trouble(&mut self) {
        let shard = self.machine.rng.random_range(0..self.machine.shards.len());
        let disk = &mut self.machine.shards[shard].disk;
        match self.machine.rng.random_range(0..12) {
            0..4 => disk.set_capacity(disk.used_bytes() + self.machine.rng.random_range(0..50_000)),
            4..6 => disk.set_read_only(true),
            6 => disk.fail_next_write(),
            7 => disk.fail_next_sync(),
            8 => disk.fail_reads(true),
            _ => self.repair(),
        }
        if self.machine.rng.random_ratio(1, 3) {
            // Long enough for everything that is done now and then.
            self.pass(Duration::from_secs(6));
        }
    }

    /// Nothing is wrong with the disks any more.
    pub(crate) fn repair(&mut self) {
        for shard in &mut self.machine.shards {
            shard.disk.set_capacity(disk_config().capacity_bytes);
            shard.disk.set_read_only(false);
            shard.disk.fail_reads(false);
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.machine.pass(time);
        self.hear();
    }

    /// The machine comes to rest: all that can be written is, and what was refused is said again.
    pub(crate) fn rest(&mut self) {
        self.repair();
        for _ in 0..4 {
            self.pass(Duration::from_secs(3));
            (1..self.clients.len()).for_each(|who| self.repeat(who));
        }
        let failed = self.has_failed();
        for _ in (0..200).take_while(|_| !failed) {
            self.pass(Duration::from_millis(20));
            if self.machine.is_settled() && self.ledgers.iter().all(Ledger::is_empty) {
                break;
            }
        }
        assert!(failed || self.machine.is_settled(), "it never comes to rest");
        assert!(failed || self.ledgers.iter().all(Ledger::is_empty), "facts that never settle");
        for (ledger, shard) in self.ledgers.iter().zip(&self.machine.shards) {
            ledger.check(&shard.topics, &NAMES);
        }
        self.learn_heads();
        // Those that a disk did not take before it failed for good are lost: they rise again.
        self.check_marks(!failed);
        // What retention took is there again after a new start, as far as its segment is.
        self.live_bytes = (!failed && !self.oracle.trims).then(|| self.count_live_bytes());
    }

    fn count_live_bytes(&self) -> Vec<u64> {
        let live = |topics: &Topics| topics.journal().map_or(0, |journal| journal.live_bytes);
        self.machine.shards.iter().map(|shard| live(&shard.topics)).collect()
    }

    /// Whether a disk has failed for good: only a new start helps.
    fn has_failed(&self) -> bool {
        let trouble = |topics: &Topics| topics.journal().is_some_and(|journal| journal.trouble.is_some());
        let failed = self.machine.shards.iter().any(|shard| trouble(&shard.topics));
        assert!(self.troubled || !failed, "trouble without a cause");
        failed
    }

    /// All in memory is gone, and so are all connections.
    pub(crate) fn stop(&mut self, how: Stop) {
        self.hear();
        self.repair();
        self.recalls.clear();
        self.clients.iter_mut().for_each(Client::hang_up);
        for shard in &mut self.machine.shards {
            spend(&mut shard.disk);
        }
        self.machine.stop(how);
    }

    /// What a new run has found is what it must.
    pub(crate) fn check_recovered(&mut self) {
        for (ledger, shard) in self.ledgers.iter_mut().zip(&self.machine.shards) {
            ledger.check_recovered(&shard.topics, &NAMES);
        }
        if let Some(live_bytes) = self.live_bytes.take() {
            assert_eq!(self.count_live_bytes(), live_bytes, "bytes that are needed, counted anew");
        }
        self.learn_heads();
        self.check_marks(false);
    }

    fn check_marks(&mut self, all_on_disk: bool) {
        let machine = &self.machine;
        self.oracle.check_marks(|topic| machine.shards.get(machine.home(topic)).map(|it| &it.topics), all_on_disk);
    }

    fn learn_heads(&mut self) {
        self.learn_heads_of(TOPICS);
    }

    /// Asks how far topics go: a page without records says so at once.
    pub(crate) fn learn_heads_of(&mut self, topics: impl IntoIterator<Item = impl AsRef<str>>) {
        self.disconnect(AUDITOR);
        self.connect(AUDITOR);
        let line = self.clients[AUDITOR].line.expect("connected above");
        topics.into_iter().for_each(|topic| self.machine.browse(line, topic.as_ref(), None, 0));
        self.disconnect(AUDITOR);
    }

    /// Where a client has come in a topic: the identity of its history, and the last offset.
    pub(crate) fn mark_of(&self, who: usize, topic: &str) -> Option<(u64, u64)> {
        self.clients[who].marks.get(topic).copied()
    }

    /// Somebody reads everything there is.
    pub(crate) fn audit(&mut self) {
        self.disconnect(AUDITOR);
        self.connect(AUDITOR);
        TOPICS.iter().for_each(|topic| self.subscribe_as(AUDITOR, topic, None, Some(0)));
        let has_all =
            |client: &Client| client.subs.len() == TOPICS.len() && client.subs.values().all(|(next, head)| next > head);
        for _ in 0..20_000 {
            if has_all(&self.clients[AUDITOR]) {
                break;
            }
            self.pass(Duration::from_millis(1));
        }
        assert!(has_all(&self.clients[AUDITOR]), "history that cannot be read: {:?}", self.clients[AUDITOR].subs);
        for (topic, (next, _)) in &self.clients[AUDITOR].subs {
            assert!(*next > self.oracle.known(topic), "{topic} ends before {}", self.oracle.known(topic));
        }
        self.disconnect(AUDITOR);
    }

    /// At rest nothing is unanswered, and everybody has read everything.
    pub(crate) fn check_answered(&mut self) {
        for who in 1..self.clients.len() {
            if self.clients[who].line.is_none() {
                self.connect(who);
            }
            self.clients[who].drain(&mut self.machine);
        }
        self.rest();
        for client in self.clients.iter().filter(|_| !self.has_failed()) {
            assert!(client.unanswered.is_empty() && client.asks.is_empty(), "never answered: {:?}", client.unanswered);
            for (topic, (next, _)) in &client.subs {
                let known = self.oracle.known(topic);
                assert!(*next > known, "{} reads {topic} up to {next}, of {known}", client.user);
            }
        }
    }

    pub(crate) fn hear(&mut self) {
        while let Some(heard) = self.machine.heard.pop_front() {
            match heard {
                Heard::Push(shard, peer, push) => self.hear_push((shard, peer), &push),
                Heard::Page(shard, page) => self.hear_page(shard, &page),
                Heard::Settled(shard, token, ok) => {
                    assert!(ok || self.troubled, "taken back without trouble");
                    self.ledgers[shard].settled(token, ok);
                    if let Some((topic, recalls)) = self.recalls.remove(&token).filter(|_| ok) {
                        recalls.into_iter().for_each(|recall| self.oracle.recalls(&topic, recall, true));
                    }
                }
            }
        }
    }

    fn hear_page(&mut self, shard: usize, page: &Page) {
        if self.clients[page.peer.index as usize].line != Some((shard, page.peer)) {
            return;
        }
        self.oracle.saw_head(&page.topic, page.epoch, page.head);
        let mut next = None;
        for record in page.records() {
            assert!(record.offset <= page.head && next.is_none_or(|next| next == record.offset));
            next = Some(record.offset + 1);
            self.oracle.saw(&page.topic, record.offset, record.from, record.at_ms, record.body);
        }
    }

    fn hear_push(&mut self, line: (usize, Peer), push: &Push) {
        let client = &mut self.clients[line.1.index as usize];
        if client.line != Some(line) {
            return;
        }
        match push {
            Push::SubOk { id, topic, epoch, head, .. } => {
                let Some(Ask::Sub { topic: asked, epoch: claimed, after }) = client.asks.remove(id) else {
                    panic!("unasked: {push:?}");
                };
                assert_eq!(*asked, **topic);
                let anew = claimed.is_some_and(|claimed| claimed != *epoch);
                let next = if anew { 1 } else { after.map_or(head + 1, |after| after + 1) };
                client.subs.insert(asked.clone(), (next, *head));
                client.marks.insert(asked, (*epoch, next - 1));
                self.oracle.saw_head(topic, *epoch, *head);
            }
            Push::PubOk { id, topic, offset, level } => {
                let Some(Ask::Pub { topic: asked, seq, body }) = client.asks.remove(id) else {
                    panic!("unasked: {push:?}");
                };
                assert_eq!((&*asked, *level), (&**topic, Level::Durable));
                if let Some(seq) = seq {
                    client.unanswered.remove(&(asked, seq));
                }
                self.oracle.acked(topic, *offset, client.user, &body);
            }
            Push::Msg { topic, offset, from, at_ms, body, .. } => {
                // What was on its way when it unsubscribed is not looked at.
                let Some((next, _)) = client.subs.get_mut(&**topic) else { return };
                assert_eq!(*next, *offset, "a gap or a repeat in {topic}");
                *next += 1;
                client.marks.get_mut(&**topic).expect("set with the subscription").1 = *offset;
                self.oracle.saw(topic, *offset, from, *at_ms, body);
                self.msgs += 1;
            }
            Push::Gap { topic, first, .. } => {
                let Some((next, _)) = client.subs.get_mut(&**topic) else { return };
                assert!(self.oracle.trims && *first > *next, "a gap in {topic} although all is kept");
                *next = *first;
                self.gaps += 1;
            }
            Push::Err { id: Some(id), code, .. } => match client.asks.remove(id) {
                Some(Ask::Pub { .. }) if self.troubled && *code == Code::Unavailable => self.refused += 1,
                Some(Ask::Pub { .. }) if self.crowded && *code == Code::ResourceExhausted => self.refused += 1,
                Some(Ask::Pub { topic, .. } | Ask::Sub { topic, .. }) => panic!("{topic}: {push:?}"),
                None => panic!("unasked: {push:?}"),
            },
            Push::UnsubOk { .. } | Push::Presence { .. } => {}
            Push::Eph { .. } | Push::Res { .. } | Push::Err { id: None, .. } => panic!("unasked: {push:?}"),
        }
    }
}

impl Client {
    fn new(user: &'static str, device: &'static str) -> Self {
        Self {
            user,
            device,
            line: None,
            connections: 0,
            lagging: false,
            ids: 0,
            asks: BTreeMap::new(),
            subs: BTreeMap::new(),
            marks: BTreeMap::new(),
            seqs: BTreeMap::new(),
            unanswered: BTreeSet::new(),
        }
    }

    fn hang_up(&mut self) {
        (self.line, self.lagging) = (None, false);
        self.connections += 1;
        self.asks.clear();
        self.subs.clear();
    }

    fn lag(&mut self, machine: &mut Machine) {
        if let Some((shard, peer)) = self.line {
            self.lagging = true;
            machine.lag(shard, peer);
        }
    }

    fn drain(&mut self, machine: &mut Machine) {
        if let Some((shard, peer)) = self.line.filter(|_| std::mem::take(&mut self.lagging)) {
            machine.drain(shard, peer);
        }
    }
}

/// Errors that were planned and have not come are not for the next run.
fn spend(disk: &mut simnet::Disk) {
    _ = disk.sync_dir("nowhere");
    if let Ok((file, _)) = disk.open("scrap", true) {
        _ = disk.write(file, 0, b"");
        _ = disk.remove("scrap");
    }
}
