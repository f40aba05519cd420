//! An application at both ends that keeps account of what was sent, what came, and whether it may have come so. It goes
//! by events alone: one that is missing leaves the account open.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantum::{
    Connection, Delivery, Direction, Event, StreamId,
    lane::{MessageError, ReadError, WriteError},
};

use crate::world::World;

/// An end of the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Client,
    Server,
}

impl Who {
    pub(crate) const BOTH: [Who; 2] = [Who::Client, Who::Server];

    pub(crate) fn other(self) -> Self {
        if self == Who::Client { Who::Server } else { Who::Client }
    }
}

/// What becomes of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// All bytes arrive.
    Whole,
    /// The sender gives it up when it has written so many bytes.
    Reset(usize),
    /// The receiver has enough after so many bytes.
    Stopped(usize),
}

/// Something to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    Stream { direction: Direction, len: usize, priority: u8, fate: Fate },
    Message { channel: u64, delivery: Delivery, len: usize, priority: u8, deadline: Option<Duration> },
    Datagram { len: usize },
}

/// Codes of streams that are given up.
const RESET: u64 = 77;
const STOP: u64 = 78;

/// Both ends' accounts.
#[derive(Default)]
pub(crate) struct Traffic {
    accounts: [Account; 2],
}

#[derive(Default)]
struct Account {
    events_seen: usize,
    waiting_streams: VecDeque<Flow>,
    waiting_messages: VecDeque<Flow>,
    outgoing: BTreeMap<StreamId, Outgoing>,
    incoming: BTreeMap<StreamId, Incoming>,
    messages: BTreeMap<(u64, u64), Message>,
    /// The newest number that came, of channels with an order.
    newest: BTreeMap<u64, u64>,
    datagrams: BTreeSet<u64>,
    serial: u64,
    counts: Counts,
}

/// What came, as far as it need not.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) messages_sent: u64,
    pub(crate) messages: u64,
    pub(crate) datagrams_sent: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

struct Outgoing {
    len: usize,
    written: usize,
    fate: Fate,
    /// Finished, reset or stopped here.
    ended: bool,
    /// And the peer has all of it, or nobody wants it any more.
    resolved: bool,
}

#[derive(Default)]
struct Incoming {
    got: usize,
    resolved: bool,
}

struct Message {
    bytes: Bytes,
    delivery: Delivery,
    deadline: Option<Instant>,
    arrived: Option<Instant>,
}

/// Every byte of every stream, told by who sends it and where it is.
fn byte(who: Who, id: StreamId, at: usize) -> u8 {
    let place = (id.0 << 33) ^ ((who as u64) << 32) ^ at as u64;
    (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8
}

/// Bytes that the peer answers on a stream in both directions.
fn answer_len(id: StreamId) -> usize {
    (id.index() as usize * 977) % 5_000
}

impl Traffic {
    /// Sends something, now or as soon as it may be sent.
    pub(crate) fn send(&mut self, world: &mut World, who: Who, flow: Flow) {
        let account = &mut self.accounts[who as usize];
        match flow {
            Flow::Stream { .. } => account.waiting_streams.push_back(flow),
            Flow::Message { .. } => account.waiting_messages.push_back(flow),
            Flow::Datagram { .. } => {}
        }
        let now = world.now;
        let connection = world.connection(who);
        match flow {
            Flow::Stream { .. } => account.open_streams(connection, who),
            Flow::Message { .. } => account.send_messages(now, connection),
            Flow::Datagram { len } => account.send_datagram(connection, len),
        }
        world.flush();
    }

    /// Acts on what happened since the last time.
    pub(crate) fn turn(&mut self, world: &mut World) {
        // What one does may be news for the other at once.
        while let Some((who, event)) = self.news(world) {
            self.on_event(world, who, &event);
            world.flush();
        }
    }

    fn news(&mut self, world: &mut World) -> Option<(Who, Event)> {
        Who::BOTH.into_iter().find_map(|who| {
            let seen = &mut self.accounts[who as usize].events_seen;
            let event = world.end(who).events.get(*seen).cloned()?;
            *seen += 1;
            Some((who, event))
        })
    }

    /// What is still missing.
    pub(crate) fn open(&self) -> Option<String> {
        Who::BOTH.into_iter().find_map(|who| {
            let account = &self.accounts[who as usize];
            let peer = &self.accounts[who.other() as usize];
            account.open(peer).map(|what| format!("{who:?}: {what}"))
        })
    }

    fn on_event(&mut self, world: &mut World, who: Who, event: &Event) {
        let now = world.now;
        let [client, server] = &mut self.accounts;
        let (account, peer) = if who == Who::Client { (client, server) } else { (server, client) };
        match *event {
            Event::Opened(id) => account.on_opened(world.connection(who), who, id),
            Event::Readable(id) => account.read(world.connection(who), who, id, peer),
            Event::Writable(id) => account.write(world.connection(who), who, id),
            Event::Finished(id) => account.on_finished(id),
            Event::Stopped { id, code } => account.on_stopped(id, code),
            Event::Reset { id, code } => account.on_reset(id, code),
            Event::StreamsAvailable(_) => account.open_streams(world.connection(who), who),
            Event::MessagesWritable => account.send_messages(now, world.connection(who)),
            Event::Message => account.take_messages(now, world.connection(who), peer),
            Event::Datagram => account.take_datagrams(world.connection(who), peer),
            Event::Connected | Event::GoAway { .. } | Event::Moved | Event::Closed(_) => {}
        }
    }
}

impl Account {
    fn open_streams(&mut self, connection: &mut Connection, who: Who) {
        while let Some(&Flow::Stream { direction, len, priority, fate }) = self.waiting_streams.front() {
            let Some(id) = connection.open(direction) else { return };
            self.waiting_streams.pop_front();
            connection.set_priority(id, priority).expect("a new stream");
            let before =
                self.outgoing.insert(id, Outgoing { len, written: 0, fate, ended: false, resolved: false }).is_some();
            assert!(!before, "{id:?} was opened twice");
            if direction == Direction::Bidirectional {
                self.incoming.insert(id, Incoming::default());
            }
            self.write(connection, who, id);
        }
    }

    fn on_opened(&mut self, connection: &mut Connection, who: Who, id: StreamId) {
        assert!(self.incoming.insert(id, Incoming::default()).is_none(), "{id:?} was told twice");
        if id.direction() == Direction::Bidirectional {
            let answer = Outgoing { len: answer_len(id), written: 0, fate: Fate::Whole, ended: false, resolved: false };
            self.outgoing.insert(id, answer);
            self.write(connection, who, id);
        }
    }

    fn write(&mut self, connection: &mut Connection, who: Who, id: StreamId) {
        let out = self.outgoing.get_mut(&id).expect("writable without being ours");
        let end = if let Fate::Reset(at) = out.fate { out.len.min(at) } else { out.len };
        while !out.ended && out.written < end {
            let chunk: Vec<u8> = (out.written..end.min(out.written + 4_096)).map(|at| byte(who, id, at)).collect();
            match connection.write(id, &chunk) {
                Ok(taken) => {
                    out.written += taken;
                    if taken < chunk.len() {
                        return;
                    }
                }
                Err(WriteError::Blocked) => return,
                // The event is on its way.
                Err(WriteError::Stopped(code)) => return assert_eq!(code, STOP),
                Err(WriteError::Closed) => panic!("{id:?} is closed, and nobody did it"),
            }
        }
        if out.ended {
            return;
        }
        out.ended = true;
        let ended = match out.fate {
            Fate::Reset(_) => {
                out.resolved = true;
                connection.reset(id, RESET)
            }
            Fate::Whole | Fate::Stopped(_) => connection.finish(id),
        };
        assert!(matches!(ended, Ok(()) | Err(WriteError::Stopped(STOP))), "{id:?}: {ended:?}");
    }

    fn read(&mut self, connection: &mut Connection, who: Who, id: StreamId, peer: &Account) {
        let incoming = self.incoming.get_mut(&id).expect("readable before it was opened");
        let fate = peer.outgoing.get(&id).map_or(Fate::Whole, |out| out.fate);
        if incoming.resolved {
            return;
        }
        loop {
            let chunk = match connection.chunk(id) {
                Ok(chunk) => chunk,
                Err(ReadError::Reset(code)) => return assert_eq!(code, RESET),
                Err(ReadError::Closed) => return assert!(incoming.resolved, "{id:?} is closed, and nobody did it"),
            };
            assert!(chunk.iter().enumerate().all(|(at, got)| *got == byte(who.other(), id, incoming.got + at)));
            let len = chunk.len();
            incoming.got += len;
            self.counts.bytes += len as u64;
            connection.consume(id, len);
            if connection.is_finished(id) {
                incoming.resolved = true;
                // One that was given up is at its end too, and the event about that may be the next.
                let whole = peer.outgoing[&id].len == incoming.got;
                assert!(whole || fate != Fate::Whole, "{id:?} ended early");
                return;
            }
            if let Fate::Stopped(at) = fate
                && incoming.got >= at
            {
                incoming.resolved = true;
                connection.stop(id, STOP).expect("a stream that is not at its end");
                return;
            }
            if len == 0 {
                return;
            }
        }
    }

    fn on_finished(&mut self, id: StreamId) {
        let out = self.outgoing.get_mut(&id).expect("finished, and not ours");
        assert!(out.ended && !out.resolved && out.written == out.len, "{id:?} is finished");
        out.resolved = true;
    }

    fn on_stopped(&mut self, id: StreamId, code: u64) {
        let out = self.outgoing.get_mut(&id).expect("stopped, and not ours");
        assert!(matches!(out.fate, Fate::Stopped(_)) && code == STOP, "{id:?} was stopped with {code}");
        (out.ended, out.resolved) = (true, true);
    }

    fn on_reset(&mut self, id: StreamId, code: u64) {
        let incoming = self.incoming.get_mut(&id).expect("reset before it was opened");
        assert!([RESET, STOP].contains(&code), "{id:?} was reset with {code}");
        incoming.resolved = true;
    }

    fn content(&mut self, len: usize) -> (u64, Vec<u8>) {
        self.serial += 1;
        let mut bytes = self.serial.to_le_bytes().to_vec();
        bytes.extend((8..len as u64).map(|at| (self.serial.wrapping_mul(31) + at) as u8));
        (self.serial, bytes)
    }

    fn send_messages(&mut self, now: Instant, connection: &mut Connection) {
        while let Some(&Flow::Message { channel, delivery, len, priority, deadline }) = self.waiting_messages.front() {
            let bytes = Bytes::from(self.content(len).1);
            match connection.send_message(now, channel, delivery, priority, deadline, bytes.clone()) {
                Ok(number) => {
                    self.waiting_messages.pop_front();
                    let deadline = deadline.map(|deadline| now + deadline);
                    let message = Message { bytes, delivery, deadline, arrived: None };
                    let before = self.messages.insert((channel, number), message);
                    // A message that a newer one replaces before it was ever sent gives its number to that.
                    let replaced = delivery == Delivery::Newest && before.as_ref().is_some_and(|m| m.arrived.is_none());
                    assert!(before.is_none() || replaced, "message {number} of channel {channel} was sent twice");
                    self.counts.messages_sent += 1;
                }
                Err(MessageError::Blocked) => return,
                Err(error) => panic!("channel {channel}: {error}"),
            }
        }
    }

    fn take_messages(&mut self, now: Instant, connection: &mut Connection, peer: &mut Account) {
        while let Some(got) = connection.recv_message() {
            let place = (got.channel, got.number);
            let sent = peer.messages.get_mut(&place).unwrap_or_else(|| panic!("{place:?} was never sent"));
            assert_eq!(sent.bytes, got.bytes, "{place:?} has other bytes");
            assert_eq!(sent.arrived.replace(now), None, "{place:?} came twice");
            self.counts.messages += 1;
            if sent.delivery != Delivery::Independent {
                let before = self.newest.insert(got.channel, got.number);
                assert!(before < Some(got.number), "{place:?} came after {before:?}");
            }
        }
    }

    fn send_datagram(&mut self, connection: &mut Connection, len: usize) {
        let (serial, bytes) = self.content(len);
        if connection.send_datagram(bytes.into()).is_ok() {
            self.datagrams.insert(serial);
            self.counts.datagrams_sent += 1;
        }
    }

    fn take_datagrams(&mut self, connection: &mut Connection, peer: &mut Account) {
        while let Some(got) = connection.recv_datagram() {
            let serial = u64::from_le_bytes(got[..8].try_into().unwrap());
            assert!(peer.datagrams.remove(&serial), "datagram {serial} came twice, or was never sent");
            self.counts.datagrams += 1;
        }
    }

    fn open(&self, peer: &Account) -> Option<String> {
        if !self.waiting_streams.is_empty() || !self.waiting_messages.is_empty() {
            return Some(format!(
                "{} streams and {} messages wait",
                self.waiting_streams.len(),
                self.waiting_messages.len()
            ));
        }
        if let Some((id, out)) = self.outgoing.iter().find(|(_, out)| !out.resolved) {
            return Some(format!("{id:?} with {} of {} written is open", out.written, out.len));
        }
        if let Some((id, incoming)) = self.incoming.iter().find(|(_, incoming)| !incoming.resolved) {
            return Some(format!("{id:?} with {} bytes is open", incoming.got));
        }
        if let Some(id) = self.outgoing.keys().find(|id| !peer.incoming.contains_key(id)) {
            return Some(format!("{id:?} was not seen"));
        }
        let mut last = BTreeMap::new();
        for ((channel, number), message) in &self.messages {
            last.insert(*channel, *number);
            let certain = message.delivery != Delivery::Newest && message.deadline.is_none();
            if certain && message.arrived.is_none() {
                return Some(format!("message {number} of channel {channel} is missing"));
            }
        }
        last.into_iter().find_map(|(channel, number)| {
            let message = &self.messages[&(channel, number)];
            let certain = message.delivery == Delivery::Newest && message.deadline.is_none();
            (certain && message.arrived.is_none()).then(|| format!("the newest of channel {channel} is missing"))
        })
    }
}
