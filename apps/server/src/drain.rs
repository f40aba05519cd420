//! A shard on its way out: what was published reaches its readers, every session is told to go, then the shard leaves.
//!
//! Nothing acknowledged may be lost on the way. A message goes from its publisher's shard to its home and from there to
//! its readers' shards; mail of one shard to another arrives in order. So shards stop reading, pass a barrier through all
//! mailboxes twice, hand their topics over for the next run, and only then say goodbye.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use engine::{Io, ShardId};
use handler::Close;
use session::Server;

use crate::{
    connection::{Connection, Kind},
    mail::{Mail, Round},
    metrics::Drop,
    shard::Shard,
};

/// How far a shard has drained.
pub(crate) struct Drain {
    until: Instant,
    arrived: [u16; 2],
    /// When sessions are told to go at the latest, so that they hear it.
    hurry: Instant,
    pub(crate) told: bool,
    /// What waited for its time to be written has been.
    finished: bool,
    handed_over: bool,
    done: bool,
}

impl Drain {
    /// When the shard leaves whatever is still open.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.done).then_some(if self.told { self.until } else { self.hurry })
    }
}

impl Shard {
    /// Starts to drain. A second order only moves the deadline.
    pub(crate) fn drain(&mut self, io: &mut Io<Mail>, until: Instant) {
        let hurry = until.checked_sub(HURRY.min((until - io.now()) / 2)).unwrap_or(until);
        if let Some(drain) = &mut self.ground.drain {
            (drain.until, drain.hurry) = (until, hurry);
            return;
        }
        let arrived = std::mem::take(&mut self.ground.early_barriers);
        self.ground.drain =
            Some(Drain { until, hurry, arrived, told: false, finished: false, handed_over: false, done: false });
        io.stop_accepting();
        self.drain_quantum(io);
        self.drain_quic();
        for line in self.connections.lines() {
            let Some(mut connection) = self.connections.take(line) else { continue };
            if connection.speaker().is_some() {
                connection.pause(io, true);
            } else {
                self.drain_http(io, &mut connection, false);
            }
            self.arm(io.now(), &mut connection);
            self.connections.put_back(connection);
        }
        self.pass_barrier(io, Round::Home);
    }

    /// A shard's barrier has arrived: all that it sent before has, too.
    pub(crate) fn barrier(&mut self, io: &mut Io<Mail>, round: Round) {
        let Some(drain) = &mut self.ground.drain else {
            // Its order to drain was faster than ours.
            self.ground.early_barriers[round as usize] += 1;
            return;
        };
        drain.arrived[round as usize] += 1;
        self.check_barrier(io);
    }

    /// Before a turn sends: tells sessions to go, if it is high time.
    pub(crate) fn hurry_drain(&mut self, io: &mut Io<Mail>) {
        if self.ground.drain.as_ref().is_some_and(|drain| !drain.told && drain.hurry <= io.now()) {
            self.part(io);
        }
        if self.ground.drain.as_ref().is_some_and(|drain| !drain.told) {
            // What was to be on disk first may be so now.
            self.check_barrier(io);
        }
    }

    /// At the end of a turn: leaves once nothing is open, or at the deadline.
    pub(crate) fn step_drain(&mut self, io: &mut Io<Mail>) {
        let Some(drain) = &mut self.ground.drain else { return };
        let late = drain.until <= io.now();
        if !drain.done && (late || (drain.told && self.connections.len() == 0)) {
            drain.done = true;
            self.hand_over(io);
            io.mail(ShardId::CONTROL, Mail::Drained);
            io.exit();
        }
    }

    fn pass_barrier(&mut self, io: &mut Io<Mail>, round: Round) {
        let this = io.shard();
        for shard in (0..io.shards()).map(ShardId).filter(|shard| *shard != this) {
            io.mail(shard, Mail::Barrier(round));
        }
        self.check_barrier(io);
    }

    fn check_barrier(&mut self, io: &mut Io<Mail>) {
        let others = io.shards() - 1;
        let Some(drain) = &mut self.ground.drain else { return };
        let home = drain.arrived[Round::Home as usize] == others;
        let reader = drain.arrived[Round::Reader as usize] == others;
        if home && !self.ground.passed_home {
            if !std::mem::replace(&mut drain.finished, true) {
                self.ground.chat(io, |chat, cx| chat.finish(cx));
            }
            // Effects of the mail before the barrier go out before ours, and so does what is shown once it is on disk.
            self.apply(io);
            if self.ground.chat.topics().is_settled() {
                self.ground.passed_home = true;
                self.pass_barrier(io, Round::Reader);
            }
        } else if home && reader && !drain.told {
            self.apply(io);
            self.part(io);
        }
    }

    /// Hands over the topics and tells every session to go.
    fn part(&mut self, io: &mut Io<Mail>) {
        if let Some(drain) = &mut self.ground.drain {
            drain.told = true;
        }
        self.hand_over(io);
        self.tell_all_to_go(io);
    }

    /// Hands the topics to the control thread, once: when all that was published has reached them, or in a hurry at the
    /// deadline. From here on they refuse what is new, for what is not in the snapshot must not be acknowledged.
    fn hand_over(&mut self, io: &mut Io<Mail>) {
        let Some(drain) = &mut self.ground.drain else { return };
        if !std::mem::replace(&mut drain.handed_over, true) {
            io.mail(ShardId::CONTROL, Mail::Snapshot(self.ground.chat.hand_over()));
        }
    }

    fn tell_all_to_go(&mut self, io: &mut Io<Mail>) {
        for line in self.connections.lines() {
            let Some(mut connection) = self.connections.take(line) else { continue };
            self.tell_to_go(io, &mut connection);
            self.arm(io.now(), &mut connection);
            self.connections.put_back(connection);
        }
    }

    fn tell_to_go(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        if connection.closing.is_some() {
            return;
        }
        let Some(speaker) = connection.speaker() else {
            self.drain_http(io, connection, true);
            return;
        };
        let mut out = BytesMut::new();
        let retry_ms = RETRY_MS;
        speaker.say(&Server::Goaway { reason: "draining".into(), retry_ms }, &mut out);
        connection.write(io, &out, &mut self.ground.wires);
        self.ground.stats.drop_for(Drop::Draining);
        // It was paused; its close and its FIN are still to be read.
        connection.pause(io, false);
        self.farewell(io, connection, Close::Draining, "the server is stopping");
    }

    fn drain_http(&mut self, io: &mut Io<Mail>, connection: &mut Connection, is_last: bool) {
        match &mut connection.kind {
            Kind::Http(http) => {
                http.drain(io.now());
                self.serve_http(io, connection);
            }
            Kind::Http3(_) => self.drain_http3(io, connection, is_last),
            Kind::Start(_) => self.end(io, connection, Close::Draining),
            Kind::Framed(_) | Kind::WebSocket(_) | Kind::Lanes(_) => {}
        }
    }
}

/// So long before the deadline sessions are told to go, whether all barriers have arrived or not.
const HURRY: Duration = Duration::from_secs(1);

// Clients come back at a time of their own choice after this, so that a restart is not a stampede.
const RETRY_MS: u32 = 1_000;
