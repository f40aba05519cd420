//! A shard of the server: streams in, protocols and apps between, effects out. It runs on the ring and in the simulator.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use bytes::BytesMut;
use chat::Chat;
use engine::{Datagrams, Io, Listener, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket, Wheel};
use handler::{App as _, Close, Map, Out, Peer, Pressure};
use session::auth::LoginId;

use crate::{
    arena::Copies,
    connection::{Connection, Kind},
    disk,
    drain::Drain,
    line::Line,
    mail::Mail,
    metrics::{Drop, ServerStats, Transport},
    receive::LINGER,
    setup::Setup,
    snapshot,
    table::Table,
    wires::Wires,
};

/// One shard: its connections, and the ground they stand on.
pub struct Shard {
    pub(crate) connections: Table,
    pub(crate) ground: Ground,
}

/// All of a shard but its connections, so that both can be borrowed at once.
pub(crate) struct Ground {
    pub(crate) setup: Arc<Setup>,
    pub(crate) limits: crate::config::Limits,
    pub(crate) stats: Arc<ServerStats>,
    pub(crate) map: Map,
    pub(crate) chat: Chat,
    pub(crate) out: Out<topic::Mail>,
    /// Mail of an app to itself on this shard.
    pub(crate) local: VecDeque<topic::Mail>,
    pub(crate) wheel: Wheel<Timer>,
    /// Connections that have not said what they want, oldest first; those that have since are skipped.
    pub(crate) half_open: VecDeque<Line>,
    pub(crate) half_open_count: usize,
    /// The sessions that were opened or renewed with a token of a login, so that its end finds them.
    pub(crate) by_login: BTreeSet<(LoginId, Peer)>,
    /// Chat's timers as they are set now; what the wheel holds beside them was moved.
    pub(crate) chat_timers: BTreeMap<handler::Timer, Instant>,
    pub(crate) drain: Option<Drain>,
    /// Barriers of shards whose order to drain came before ours, by round.
    pub(crate) early_barriers: [u16; 2],
    pub(crate) passed_home: bool,
    // Buffers that are empty between uses and keep their memory.
    pub(crate) due: Vec<Timer>,
    pub(crate) plain: Vec<u8>,
    pub(crate) train: Vec<u8>,
    pub(crate) answers: BytesMut,
    pub(crate) control: BytesMut,
    pub(crate) wires: Wires,
    pub(crate) date: crate::date::Date,
    /// What answers over HTTP/3 have in common.
    pub(crate) coded: crate::prepared::Coded,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// A connection's earliest deadline.
    Connection(Line, Instant),
    /// One of chat's.
    Chat(handler::Timer),
}

impl Reactor for Shard {
    type Mail = Mail;

    fn on_start(&mut self, io: &mut Io<Mail>) {
        self.ground.wires.quantum = self.ground.setup.endpoint(io).map(Box::new);
        match self.ground.setup.quic(io) {
            Ok(quic) => self.ground.wires.quic = quic.map(Box::new),
            Err(error) => tracing::error!(%error, "QUIC is not spoken"),
        }
        self.ground.chat(io, |chat, cx| chat.on_start(cx));
        self.apply(io);
        io.mail(ShardId::CONTROL, Mail::Ready);
    }

    fn on_datagrams(&mut self, io: &mut Io<Mail>, _socket: Socket, train: Datagrams<'_>) {
        self.take_train(io, train);
    }

    fn on_stream(&mut self, io: &mut Io<Mail>, stream: Stream, event: StreamEvent<'_>) {
        let line = Line::Tcp(stream);
        match event {
            StreamEvent::Accepted { listener, peer } => self.accept(io, stream, listener, peer.ip()),
            StreamEvent::Connected { .. } | StreamEvent::ConnectFailed { .. } => {}
            StreamEvent::Data(bytes) => self.with(io, line, |shard, io, connection| {
                shard.receive(io, connection, bytes);
            }),
            StreamEvent::Sent { bytes } => {
                self.with(io, line, |shard, io, connection| shard.sent(io, connection, bytes))
            }
            StreamEvent::Behind => self.with(io, line, |_, _, connection| connection.behind = true),
            StreamEvent::Ended => self.with(io, line, |shard, io, connection| shard.ended(io, connection)),
            StreamEvent::Closed(_) => self.closed(io, line, Close::PeerLeft),
        }
        self.apply(io);
    }

    fn on_disk(&mut self, io: &mut Io<Mail>, ticket: Ticket, outcome: Outcome) {
        let (ticket, outcome) = (handler::Ticket(ticket.0), disk::outcome(outcome));
        self.ground.chat(io, |chat, cx| chat.on_disk(cx, ticket, outcome));
        self.apply(io);
    }

    fn on_mail(&mut self, io: &mut Io<Mail>, from: ShardId, mail: Mail) {
        match mail {
            Mail::Chat(mail) => {
                let from = handler::ShardId(from.0);
                self.ground.chat(io, |chat, cx| chat.on_mail(cx, from, mail));
            }
            Mail::Answered { line, request, answer } => self.with(io, line, |shard, io, connection| {
                shard.answered(io, connection, request, *answer);
            }),
            Mail::Ended(ended) => self.end_logins(io, &ended),
            Mail::Datagrams(train) => self.take_forwarded(io, *train),
            Mail::Barrier(round) => self.barrier(io, round),
            Mail::Drain { until } => self.drain(io, until),
            Mail::Ready | Mail::Asked(_) | Mail::Snapshot(_) | Mail::Drained => {}
        }
        self.apply(io);
    }

    fn on_turn_end(&mut self, io: &mut Io<Mail>) {
        self.expire(io);
        self.ground.chat(io, |chat, cx| chat.on_turn_end(cx));
        self.apply(io);
        self.hurry_drain(io);
        let transmits = self.transmit(io);
        self.gauge();
        self.step_drain(io);
        let drain = self.ground.drain.as_ref().and_then(Drain::deadline);
        let next = self.ground.wheel.next_deadline();
        io.wake_at([drain, next, transmits].into_iter().flatten().min());
    }
}

impl Shard {
    /// A shard of a run; `stats` is its own set of counters in `setup`.
    #[must_use]
    pub fn new(id: ShardId, shards: u16, now: Instant, setup: Arc<Setup>) -> Self {
        let stats = setup.stats(id);
        let limits = setup.config.limits.clone();
        let map = Map::even(shards);
        let recovered = setup.journal.as_ref().and_then(|journals| journals.take(id));
        let mut chat = recovered.unwrap_or_else(|| setup.chat());
        if let Some(snapshot) = setup.snapshot.load_full() {
            let here = handler::ShardId(id.0);
            snapshot::tell(id, chat.take_up(&snapshot, |topic| map.home(topic) == here));
        }
        Self {
            connections: Table::default(),
            ground: Ground {
                limits,
                stats,
                map,
                chat,
                out: Out::default(),
                local: VecDeque::new(),
                wheel: Wheel::new(now),
                half_open: VecDeque::new(),
                half_open_count: 0,
                by_login: BTreeSet::new(),
                chat_timers: BTreeMap::new(),
                drain: None,
                early_barriers: [0; 2],
                passed_home: false,
                due: Vec::new(),
                plain: Vec::new(),
                train: Vec::new(),
                answers: BytesMut::new(),
                control: BytesMut::new(),
                wires: Wires::default(),
                date: crate::date::Date::default(),
                coded: crate::prepared::Coded::default(),
                setup,
            },
        }
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// New QUIC connections are shown the certificate that is in use. All else asks for it at each handshake.
    pub(crate) fn renew_certificate(&mut self) {
        let (setup, quic) = (&self.ground.setup, &mut self.ground.wires.quic);
        let (Some(quic), Some(certificates)) = (quic, &setup.certificates) else { return };
        let version = certificates.version();
        if std::mem::replace(&mut quic.certificate, version) == version {
            return;
        }
        if let Some(tls) = setup.quic_tls()
            && let Err(error) = quic.endpoint.set_server(&tls)
        {
            tracing::error!(%error, "QUIC goes on with the certificate of before");
        }
    }

    /// Shows how much there is; each is known without counting.
    fn gauge(&self) {
        let stats = &self.ground.stats;
        stats.half_open.set(self.ground.half_open_count as u64);
        stats.queue_bytes.set(self.connections.queued() as u64);
        if let Some(endpoint) = &self.ground.wires.quantum {
            stats.quantum.show(endpoint);
        }
        if let Some(quic) = &self.ground.wires.quic {
            stats.quic.show(&quic.endpoint);
        }
        let topics = self.ground.chat.topics();
        stats.topics.set(topics.count() as u64);
        stats.journal.show(topics);
    }

    /// Works on a connection by the apps' name, as [`Shard::with`] does by its line.
    pub(crate) fn with_peer(
        &mut self,
        io: &mut Io<Mail>,
        peer: Peer,
        act: impl FnOnce(&mut Self, &mut Io<Mail>, &mut Connection),
    ) {
        if let Some(mut connection) = self.connections.take_peer(peer) {
            act(self, io, &mut connection);
            self.arm(io.now(), &mut connection);
            self.connections.put_back(connection);
        }
    }

    pub(crate) fn with(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        act: impl FnOnce(&mut Self, &mut Io<Mail>, &mut Connection),
    ) {
        if let Some(mut connection) = self.connections.take(line) {
            act(self, io, &mut connection);
            self.arm(io.now(), &mut connection);
            self.connections.put_back(connection);
        }
    }

    fn accept(&mut self, io: &mut Io<Mail>, stream: Stream, listener: Listener, address: IpAddr) {
        let ground = &mut self.ground;
        ground.stats.open(Transport::New);
        if ground.drain.is_some() {
            ground.stats.close(Transport::New);
            ground.stats.drop_for(Drop::Draining);
            io.close(stream);
            return;
        }
        let Ok(tls) = ground.setup.tls_for(listener) else {
            ground.stats.close(Transport::New);
            ground.stats.drop_for(Drop::Tls);
            io.close(stream);
            return;
        };
        self.admit(io, Box::new(Connection::tcp(stream, address, tls, io.now())));
    }

    /// Takes in a connection that has not said yet what it wants.
    pub(crate) fn admit(&mut self, io: &mut Io<Mail>, mut connection: Box<Connection>) {
        self.ground.half_open.push_back(connection.line);
        self.ground.half_open_count += 1;
        self.arm(io.now(), &mut connection);
        self.connections.insert(connection);
        self.evict_half_open(io);
    }

    /// A connection is gone.
    pub(crate) fn closed(&mut self, io: &mut Io<Mail>, line: Line, reason: Close) {
        if let Some(mut connection) = self.connections.take(line) {
            self.leave(io, &mut connection, reason);
            self.ground.stats.close(connection.transport);
            self.connections.forget(line);
        }
    }

    /// Closes the oldest connections that have not said what they want, when there are too many of them.
    fn evict_half_open(&mut self, io: &mut Io<Mail>) {
        while self.ground.half_open_count > self.ground.limits.half_open_max {
            let Some(line) = self.ground.half_open.pop_front() else { return };
            let Some(mut connection) = self.connections.take(line) else { continue };
            if connection.half_open {
                self.ground.stats.drop_for(Drop::HalfOpenMax);
                self.abandon(io, &mut connection, Close::OutOfLimit);
            }
            self.connections.put_back(connection);
        }
        trim(&mut self.ground.half_open, self.ground.half_open_count, |line| self.connections.is_half_open(line));
    }

    /// The connection has said what it wants.
    pub(crate) fn opened(&mut self, connection: &mut Connection) {
        if std::mem::take(&mut connection.half_open) {
            self.ground.half_open_count -= 1;
        }
    }

    /// It speaks the session protocol now, and has to say hello like one that has just come.
    pub(crate) fn half_open_again(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.half_open, true) {
            self.ground.half_open.push_back(connection.line);
            self.ground.half_open_count += 1;
        }
    }

    fn sent(&mut self, io: &mut Io<Mail>, connection: &mut Connection, bytes: usize) {
        connection.queued = connection.queued.saturating_sub(bytes);
        connection.progress = io.now();
        connection.behind = false;
        self.progressed(io, connection);
    }

    /// Some of what was queued on a connection is gone.
    pub(crate) fn progressed(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        if connection.closing.is_some() {
            // Slow, but it reads: the rest of an answer is worth waiting for.
            connection.closing = Some((io.now() + LINGER).min(connection.closing_max));
            return;
        }
        if let Kind::Http(_) = &connection.kind {
            self.serve_http(io, connection);
        }
        let drained = connection.queued <= self.ground.limits.queue_soft_bytes / 4;
        let greets = connection.speaker().is_some_and(|speaker| speaker.hello.is_some());
        if connection.lagging && drained && !greets {
            self.drained(io, connection);
        }
    }

    pub(crate) fn drained(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        connection.lagging = false;
        let peer = connection.line.peer();
        self.ground.chat(io, |chat, cx| chat.on_pressure(cx, peer, Pressure::Drained));
    }

    /// Ends the session on a connection, for the apps: once, whatever ends it.
    pub(crate) fn leave(&mut self, io: &mut Io<Mail>, connection: &mut Connection, reason: Close) {
        self.opened(connection);
        let peer = connection.line.peer();
        let Some(speaker) = connection.speaker() else { return };
        speaker.hello = None;
        self.ground.belongs(speaker, peer, None);
        if speaker.info.take().is_some() {
            let open = &self.ground.stats.sessions_open;
            open.set(open.get().saturating_sub(1));
            self.ground.chat(io, |chat, cx| chat.on_close(cx, peer, reason));
        }
    }

    /// Ends a connection at once.
    pub(crate) fn abandon(&mut self, io: &mut Io<Mail>, connection: &mut Connection, reason: Close) {
        if connection.closing.is_some() {
            return;
        }
        self.leave(io, connection, reason);
        connection.closing = Some(io.now() + LINGER);
        connection.part(reason);
        connection.close(io, &mut self.ground.wires);
    }
}

/// Takes out what is not half open any more: in front at once, and behind one that stays when it is most of the list.
fn trim(lines: &mut VecDeque<Line>, count: usize, mut is_half_open: impl FnMut(Line) -> bool) {
    while lines.front().is_some_and(|line| !is_half_open(*line)) {
        lines.pop_front();
    }
    if lines.len() > 2 * count + STALE_MIN {
        lines.retain(|line| is_half_open(*line));
    }
}

/// Stale entries that are not worth a look through all.
const STALE_MIN: usize = 64;

impl Ground {
    /// Calls chat with all that it may know and ask for.
    pub(crate) fn chat(&mut self, io: &mut Io<Mail>, call: impl FnOnce(&mut Chat, &mut handler::Cx<'_, topic::Mail>)) {
        let (now, wall_ms, shard) = (io.now(), io.wall_ms(), handler::ShardId(io.shard().0));
        let (rng, arena) = io.rng_and_arena();
        let mut copies = Copies(arena);
        let mut cx = handler::Cx { now, wall_ms, shard, rng, map: &self.map, arena: &mut copies, out: &mut self.out };
        call(&mut self.chat, &mut cx);
    }

    /// Sets a timer.
    pub(crate) fn set(&mut self, now: Instant, at: Instant, timer: Timer) {
        self.wheel.insert(now, at, timer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stays_half_open_does_not_keep_those_behind_it() {
        let line = |index| Line::Quic(quic::Handle { index, generation: 0 });
        let mut lines = VecDeque::from([line(0)]);
        for index in 1..10_000 {
            lines.push_back(line(index));
            trim(&mut lines, 1, |other| other == line(0));
            assert!(lines.len() <= STALE_MIN + 2 && lines[0] == line(0));
        }
        trim(&mut lines, 0, |_| false);
        assert!(lines.is_empty());
    }
}
