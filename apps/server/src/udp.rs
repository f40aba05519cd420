//! Datagrams in and out: QUIC and Quantum told apart, what belongs to another shard passed on, trains sent.

use std::{ops::Range, time::Instant};

use engine::{Datagrams, Io, ShardId, Socket, Train};

use crate::{
    mail::{Forwarded, Mail},
    metrics::DatagramDrop,
    shard::{Ground, Shard},
};

/// The one UDP socket.
pub(crate) const SECURE_UDP: Socket = Socket(0);

/// Set in the first byte of every QUIC packet, never in a Quantum one.
const QUIC_BIT: u8 = 0x40;

/// Mail that may wait for a full box before datagrams for another shard are dropped: a train has up to 64 KiB, and what
/// is dropped here is sent again.
const FORWARD_WAITING_MAX: usize = 256;

/// Laps of events and sends that follow from each other in one turn; what is left waits for the next one.
const LAPS_MAX: usize = 4;

/// Connections whose queues are looked at per lap. It costs about as much as TCP's report of what was sent.
const WATCH_MAX: usize = 4096;

/// A train as its datagrams are looked at one by one.
struct Passing<'a> {
    train: Datagrams<'a>,
    /// Neighbours that belong to one other shard, and are not on their way yet.
    run: Option<(u16, Range<usize>)>,
    /// It was passed on once already.
    forwarded: bool,
}

impl Shard {
    /// Takes what arrived on the socket.
    pub(crate) fn take_train(&mut self, io: &mut Io<Mail>, train: Datagrams<'_>) {
        self.renew_certificate();
        self.take(io, Passing { train, run: None, forwarded: false });
    }

    /// Takes what another shard passed on.
    pub(crate) fn take_forwarded(&mut self, io: &mut Io<Mail>, train: Forwarded) {
        let Forwarded { peer, ecn, segment, bytes } = train;
        let mut scratch = std::mem::take(&mut self.ground.train);
        scratch.clear();
        scratch.extend_from_slice(&bytes);
        drop(bytes);
        self.take(
            io,
            Passing { train: Datagrams { peer, segment, ecn, bytes: &mut scratch }, run: None, forwarded: true },
        );
        self.ground.train = scratch;
    }

    fn take(&mut self, io: &mut Io<Mail>, mut passing: Passing<'_>) {
        let mut from = 0;
        while from < passing.train.bytes.len() {
            let until = passing.train.bytes.len().min(from + passing.train.segment.max(1));
            self.ground.take_datagram(io, &mut passing, from..until);
            from = until;
        }
        self.ground.pass_on(io, &mut passing);
        self.serve_endpoints(io);
    }

    /// Works off what both endpoints have to report; whether there was anything.
    fn serve_endpoints(&mut self, io: &mut Io<Mail>) -> bool {
        self.serve_quantum(io) | self.serve_quic(io)
    }

    /// Lets Quantum and QUIC do what is due and send what they may; when they want to be called again.
    pub(crate) fn transmit(&mut self, io: &mut Io<Mail>) -> Option<Instant> {
        let now = io.now();
        self.ground.wires.handle_timeout(now);
        self.serve_quic(io);
        for _ in 0..LAPS_MAX {
            let all = self.ground.send_trains(io);
            let (told, relieved) = (self.serve_endpoints(io), self.watch(io));
            if !told && !relieved {
                // With no room left, the end of a send is what wakes the shard.
                return if all { self.ground.wires.deadline() } else { None };
            }
        }
        Some(now)
    }

    /// Looks which of the connections that have something queued have less of it now; whether any had.
    fn watch(&mut self, io: &mut Io<Mail>) -> bool {
        let mut any = false;
        if !std::mem::take(&mut self.ground.wires.stirred) {
            return any;
        }
        for _ in 0..self.ground.wires.watched.len().min(WATCH_MAX) {
            let Some(line) = self.ground.wires.watched.pop_front() else { break };
            self.with(io, line, |shard, io, connection| {
                // It may have been asked before, in the middle of a fan-out, when nothing could come of it.
                let (less, lagged) = (connection.refresh(io.now(), &mut shard.ground.wires), connection.lagging);
                if less || lagged {
                    shard.progressed(io, connection);
                    any |= less || !connection.lagging;
                }
                connection.watch(&mut shard.ground.wires);
            });
        }
        self.apply(io);
        any
    }
}

impl Ground {
    fn take_datagram(&mut self, io: &mut Io<Mail>, passing: &mut Passing<'_>, at: Range<usize>) {
        let (remote, ecn) = (passing.train.peer, passing.train.ecn);
        let (now, unix_ms) = (io.now(), io.wall_ms());
        let datagram = &mut passing.train.bytes[at.clone()];
        let is_quic = datagram.first().is_some_and(|first| first & QUIC_BIT != 0);
        let foreign = match (&mut self.wires.quic, &mut self.wires.quantum) {
            (Some(quic), _) if is_quic => {
                let meta = quic::Meta { local: quic.local, remote };
                match quic.endpoint.handle(now, unix_ms, meta, datagram) {
                    quic::Verdict::Foreign(shard) => Some(shard),
                    // What it drops, it counts.
                    _ => None,
                }
            }
            (_, Some(quantum)) if !is_quic => {
                match quantum.handle(now, unix_ms, quantum::Meta { remote, ecn }, datagram) {
                    quantum::Verdict::Foreign(shard) => Some(shard),
                    quantum::Verdict::Taken | quantum::Verdict::Dropped(_) => None,
                }
            }
            _ => return self.stats.drop_datagrams(DatagramDrop::Unserved, 1),
        };
        match foreign {
            None => {}
            // One hop only: what leads nowhere else would go round for ever.
            Some(_) if passing.forwarded => self.stats.drop_datagrams(DatagramDrop::Misrouted, 1),
            Some(shard) => match &mut passing.run {
                Some((same, range)) if *same == shard && range.end == at.start => range.end = at.end,
                _ => {
                    self.pass_on(io, passing);
                    passing.run = Some((shard, at));
                }
            },
        }
    }

    /// Passes a run of datagrams on to the shard that has their connection.
    fn pass_on(&mut self, io: &mut Io<Mail>, passing: &mut Passing<'_>) {
        let Some((shard, range)) = passing.run.take() else { return };
        let Datagrams { peer, segment, ecn, .. } = passing.train;
        let count = range.len().div_ceil(segment.max(1)) as u64;
        if io.mail_waiting() >= FORWARD_WAITING_MAX || shard >= io.shards() {
            return self.stats.drop_datagrams(DatagramDrop::MailboxFull, count);
        }
        let bytes = io.arena().copy(&passing.train.bytes[range]);
        self.stats.steer_forwarded.add(count);
        io.mail(ShardId(shard), Mail::Datagrams(Box::new(Forwarded { peer, ecn, segment, bytes })));
    }

    /// Sends what Quantum and QUIC let go, as far as the engine has room; whether it had room for all.
    fn send_trains(&mut self, io: &mut Io<Mail>) -> bool {
        self.send_quantum(io) && self.send_quic(io)
    }

    fn send_quantum(&mut self, io: &mut Io<Mail>) -> bool {
        let Some(endpoint) = &mut self.wires.quantum else { return true };
        while io.train_room() > 0 {
            let Some(transmit) = endpoint.poll_transmit(io.now(), &mut self.train) else { return true };
            self.wires.stirred = true;
            let segment = u16::try_from(transmit.segment).unwrap_or(u16::MAX);
            io.send_train(SECURE_UDP, Train { to: transmit.to, segment, ecn: transmit.ecn }, &self.train);
        }
        false
    }

    fn send_quic(&mut self, io: &mut Io<Mail>) -> bool {
        let Some(quic) = &mut self.wires.quic else { return true };
        let segments_max = quic::config::TRAIN_MAX;
        while io.train_room() > 0 {
            let Some(transmit) = quic.endpoint.poll_transmit(io.now(), &mut quic.train, segments_max) else {
                return true;
            };
            self.wires.stirred = true;
            let segment = u16::try_from(transmit.segment).unwrap_or(u16::MAX);
            let train = Train { to: transmit.to, segment, ecn: 0 };
            io.send_train(SECURE_UDP, train, &quic.train[..transmit.size]);
        }
        false
    }
}
