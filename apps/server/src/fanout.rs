//! What apps ask for, carried out: pushes encoded once per dialect, mail, timers, and the switch to lagging.

use crate::{
    connection::Connection,
    dialect::Dialect,
    disk,
    mail::Mail,
    metrics::Drop,
    shard::{Ground, Shard, Timer},
    speaker::HELLO_IDS,
    wording,
};
use bytes::Bytes;
use engine::{Io, ShardId};
use handler::{App as _, Close, Effect, Peer, Pressure, Push};

/// A push in each dialect that somebody needed so far.
pub(crate) type Encoded = [Option<Bytes>; Dialect::COUNT];

impl Shard {
    /// Carries out what the apps asked for, and what that makes them ask for, until nothing is left.
    pub(crate) fn apply(&mut self, io: &mut Io<Mail>) {
        loop {
            let mut effects = std::mem::take(&mut self.ground.out.effects);
            let peers = std::mem::take(&mut self.ground.out.peers);
            for effect in effects.drain(..) {
                self.carry_out(io, effect, &peers);
            }
            self.ground.out.restore(effects, peers);
            while let Some(mail) = self.ground.local.pop_front() {
                let from = handler::ShardId(io.shard().0);
                self.ground.chat(io, |chat, cx| chat.on_mail(cx, from, mail));
            }
            if self.ground.out.effects.is_empty() {
                return;
            }
        }
    }

    fn carry_out(&mut self, io: &mut Io<Mail>, effect: Effect<topic::Mail>, peers: &[Peer]) {
        match effect {
            Effect::Send { peer, push } => self.push(io, peer, push),
            Effect::Publish { peers: range, push } => self.publish(io, &peers[range], &push),
            Effect::Mail { to, mail } if to.0 == io.shard().0 => self.ground.local.push_back(mail),
            Effect::Mail { to, mail } => io.mail(ShardId(to.0), Mail::Chat(mail)),
            Effect::WakeAt { timer, at } => {
                self.ground.chat_timers.insert(timer, at);
                self.ground.set(io.now(), at, Timer::Chat(timer));
            }
            Effect::Disk { ticket, operation } => {
                let Some(journals) = &self.ground.setup.journal else { return };
                let operation = disk::operation(operation, |name| journals.path(io.shard(), name));
                io.disk(engine::Ticket(ticket.0), operation);
            }
            Effect::Close { peer, reason } => {
                if let Some(mut connection) = self.connections.take_peer(peer) {
                    self.farewell(io, &mut connection, reason, "closed by the app");
                    self.arm(io.now(), &mut connection);
                    self.connections.put_back(connection);
                }
            }
        }
    }

    fn push(&mut self, io: &mut Io<Mail>, peer: Peer, push: Push) {
        let Some(mut connection) = self.connections.take_peer(peer) else { return };
        let answers = matches!(
            push,
            Push::SubOk { .. }
                | Push::UnsubOk { .. }
                | Push::PubOk { .. }
                | Push::Res { .. }
                | Push::Err { id: Some(_), .. }
        );
        if let Some(speaker) = connection.speaker() {
            let greets = speaker.hello.is_some();
            if answers && push_id(&push).is_none_or(|id| id < HELLO_IDS) {
                speaker.session.on_answered();
            }
            if let Push::UnsubOk { topic, .. } = &push {
                speaker.session.forget(topic);
            }
            speaker.settle(&push);
            let push = Ground::intercept(speaker, push);
            // Messages wait in their topics until the welcome is out.
            connection.lagging |= greets;
            match push {
                Some(push) => self.tell(io, &mut connection, &push, &mut Encoded::default()),
                None => self.write_welcome(io, &mut connection),
            }
        }
        self.connections.put_back(connection);
    }

    fn publish(&mut self, io: &mut Io<Mail>, peers: &[Peer], push: &Push) {
        let mut encoded = Encoded::default();
        for peer in peers {
            let Some(mut connection) = self.connections.take_peer(*peer) else { continue };
            match connection.speaker().and_then(|speaker| speaker.hello.as_mut()) {
                Some(hello) if yields(push).is_none() => hello.held.push(push.clone()),
                Some(_) => {
                    connection.lagging = true;
                    self.tell(io, &mut connection, push, &mut encoded);
                }
                None => self.tell(io, &mut connection, push, &mut encoded),
            }
            self.connections.put_back(connection);
        }
    }

    /// Queues a push on a connection, unless it lags; too much makes it lag, far too much ends it.
    pub(crate) fn tell(&mut self, io: &mut Io<Mail>, connection: &mut Connection, push: &Push, encoded: &mut Encoded) {
        let Some((dialect, is_foreign)) =
            connection.speaker().map(|speaker| (speaker.dialect, speaker.foreign.is_some()))
        else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        let yields = yields(push);
        if let Some((alias, offset)) = yields {
            if !connection.lagging && self.is_slow(io, connection) {
                connection.lagging = true;
                self.ground.stats.lagging.add(1);
            }
            if connection.lagging {
                // Told for each one that is held back: pushes of several topics may already be on their way here.
                let peer = connection.line.peer();
                self.ground.chat(io, |chat, cx| chat.on_pressure(cx, peer, Pressure::Lagging { alias, offset }));
                return;
            }
        }
        if is_foreign {
            self.tell_foreign(io, connection, push);
        } else {
            let ground = &mut self.ground;
            let bytes =
                encoded[dialect.index()].get_or_insert_with(|| dialect.encode_shared(&wording::of(push), io.arena()));
            ground.stats.sent(bytes.len());
            if !connection.write_aside(io, push, bytes, &mut ground.wires) {
                connection.write_shared(io, bytes, &mut ground.wires);
            }
        }
        if connection.queued > self.ground.limits.queue_hard_bytes {
            self.ground.stats.drop_for(Drop::QueueFull);
            self.abandon(io, connection, Close::OutOfLimit);
        }
    }
}

impl Shard {
    /// Whether a connection has so much queued that messages had better wait in their topics.
    fn is_slow(&mut self, io: &Io<Mail>, connection: &mut Connection) -> bool {
        let soft = self.ground.limits.queue_soft_bytes;
        if connection.queued >= soft {
            // What Quantum has sent since is known only to itself.
            connection.refresh(io.now(), &mut self.ground.wires);
        }
        connection.behind || connection.queued >= soft
    }
}

/// What waits in its topic while a connection lags: the topic's alias and the offset.
pub(crate) fn yields(push: &Push) -> Option<(u32, Option<u64>)> {
    match push {
        Push::Msg { alias, offset, .. } => Some((*alias, Some(*offset))),
        Push::Eph { alias, .. } => Some((*alias, None)),
        Push::SubOk { .. }
        | Push::UnsubOk { .. }
        | Push::PubOk { .. }
        | Push::Res { .. }
        | Push::Err { .. }
        | Push::Presence { .. }
        | Push::Gap { .. } => None,
    }
}

/// The request that a push answers.
pub(crate) fn push_id(push: &Push) -> Option<u32> {
    match push {
        Push::SubOk { id, .. } | Push::UnsubOk { id, .. } | Push::PubOk { id, .. } | Push::Res { id, .. } => Some(*id),
        Push::Err { id, .. } => *id,
        Push::Msg { .. } | Push::Eph { .. } | Push::Presence { .. } | Push::Gap { .. } => None,
    }
}
