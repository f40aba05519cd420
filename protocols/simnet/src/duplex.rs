//! A simulated TCP connection: two pipes, and what the end of one means for the other.

use std::time::Instant;

use crate::pipe::{Arrival, Pipe, PipeConfig};

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who accepted.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A connection. Each call names the side that acts.
#[derive(Clone, Debug)]
pub struct Duplex {
    /// Written by the client.
    up: Pipe,
    /// Written by the server.
    down: Pipe,
    /// Who is gone, and neither reads nor writes any more.
    client_gone: bool,
    server_gone: bool,
}

impl Duplex {
    /// A connection that stands; `seed` decides all that happens by chance, in both directions.
    #[must_use]
    pub fn new(seed: u64, config: PipeConfig) -> Self {
        Self {
            up: Pipe::new(seed, config),
            // Another stream of numbers than the first one's, and than that of a neighbour with the next seed.
            down: Pipe::new(!seed, config),
            client_gone: false,
            server_gone: false,
        }
    }

    /// How many bytes a side can get rid of now.
    pub fn room(&mut self, now: Instant, side: Side) -> usize {
        if self.is_gone(side) { 0 } else { self.outgoing(side).room(now) }
    }

    /// Writes what there is room for, and says how many bytes those were.
    pub fn write(&mut self, now: Instant, side: Side, bytes: &[u8]) -> usize {
        if self.is_gone(side) { 0 } else { self.outgoing(side).write(now, bytes) }
    }

    /// FIN: the side will write no more, and still reads.
    pub fn finish(&mut self, now: Instant, side: Side) {
        if !self.is_gone(side) {
            self.outgoing(side).finish(now);
        }
    }

    /// RST: the side is gone at once; the other one learns it later.
    pub fn reset(&mut self, now: Instant, side: Side) {
        if !self.is_gone(side) {
            self.leave(side);
            self.outgoing(side).reset(now);
        }
    }

    /// The side stops reading, or goes on.
    pub fn stall(&mut self, side: Side, stalled: bool) {
        self.incoming(side).stall(stalled);
    }

    /// Nothing arrives at either side before `until`.
    pub fn hold(&mut self, until: Instant) {
        self.up.hold(until);
        self.down.hold(until);
    }

    /// What has arrived at a side. A reset ends both directions for it.
    pub fn poll(&mut self, now: Instant, side: Side) -> Option<Arrival> {
        if self.is_gone(side) {
            return None;
        }
        let arrival = self.incoming(side).poll(now)?;
        if arrival == Arrival::Reset {
            self.leave(side);
        }
        Some(arrival)
    }

    /// When something happens that `poll` or `room` of a side tells.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let arrivals = [(&self.up, self.server_gone), (&self.down, self.client_gone)];
        arrivals.into_iter().filter(|(_, gone)| !gone).filter_map(|(pipe, _)| pipe.deadline()).min()
    }

    /// Nothing will happen any more: both have left, or both directions have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        (self.up.is_ended() || self.server_gone) && (self.down.is_ended() || self.client_gone)
    }

    fn outgoing(&mut self, side: Side) -> &mut Pipe {
        match side {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        }
    }

    fn incoming(&mut self, side: Side) -> &mut Pipe {
        self.outgoing(side.peer())
    }

    fn is_gone(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client_gone,
            Side::Server => self.server_gone,
        }
    }

    fn leave(&mut self, side: Side) {
        match side {
            Side::Client => self.client_gone = true,
            Side::Server => self.server_gone = true,
        }
    }
}
