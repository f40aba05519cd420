//! What connections write through: the ciphertext of TLS on its way to the ring, and the endpoints of Quantum and QUIC.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use bytes::BytesMut;

use crate::{
    carrier::Quic,
    line::Line,
    pipe::{LaneId, Pipe},
};

/// What a shard's connections share on their way out.
#[derive(Default)]
pub(crate) struct Wires {
    /// Empty between uses; keeps its memory.
    pub(crate) cipher: BytesMut,
    /// All Quantum connections of the shard, if Quantum is served.
    pub(crate) quantum: Option<Box<quantum::Endpoint>>,
    /// All QUIC connections of the shard, if QUIC is served.
    pub(crate) quic: Option<Box<Quic>>,
    /// Connections that have something queued. What is sent in datagrams tells of no end, so these are looked at.
    pub(crate) watched: VecDeque<Line>,
    /// Trains have left since.
    pub(crate) stirred: bool,
}

/// What is known of the way to a client.
pub(crate) struct Way {
    pub(crate) remote: SocketAddr,
    pub(crate) packets_received: u64,
}

impl Wires {
    /// What carries the lanes of a line, as long as it is there. It is asked for output again.
    pub(crate) fn pipe(&mut self, line: Line) -> Option<Pipe<'_>> {
        match line {
            Line::Tcp(_) => None,
            Line::Quantum(handle) => self.quantum.as_mut()?.connection(handle).map(Pipe::Quantum),
            Line::Quic(handle) => self.quic.as_mut()?.endpoint.connection(handle).map(Pipe::Quic),
            Line::WebTransport(handle) => self.quic.as_mut()?.pipe(handle),
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(quantum) = self.quantum.as_mut().filter(|one| one.deadline().is_some_and(|at| at <= now)) {
            quantum.handle_timeout(now);
        }
        if let Some(quic) = self.quic.as_mut().filter(|one| one.endpoint.deadline().is_some_and(|at| at <= now)) {
            quic.endpoint.handle_timeout(now);
        }
    }

    /// When an endpoint wants to be called again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let quantum = self.quantum.as_ref().and_then(|quantum| quantum.deadline());
        let quic = self.quic.as_ref().and_then(|quic| quic.endpoint.deadline());
        quantum.into_iter().chain(quic).min()
    }

    /// Bytes of a lane that its carrier has not let go; of Quantum those of all lanes together. To be looked at only.
    pub(crate) fn waiting(&self, line: Line, id: LaneId) -> usize {
        match line {
            Line::Quantum(handle) => {
                let queued =
                    self.quantum.as_ref().and_then(|quantum| quantum.peek(handle)).map(|one| one.queued_bytes());
                usize::try_from(queued.unwrap_or(0)).unwrap_or(usize::MAX)
            }
            Line::WebTransport(handle) => {
                self.quic.as_ref().map_or(0, |quic| quic.waiting(handle, quic::StreamId(id.0)))
            }
            // quiche takes no more than the path does.
            Line::Tcp(_) | Line::Quic(_) => 0,
        }
    }

    /// Where a client is and how much of it was heard. To be looked at only: it is not asked for output.
    pub(crate) fn way(&self, line: Line) -> Option<Way> {
        let quic = |quic: &Quic, handle| {
            let connection = quic.endpoint.peek(handle)?;
            Some(Way { remote: connection.remote(), packets_received: connection.stats().packets_received })
        };
        match line {
            Line::Tcp(_) => None,
            Line::Quantum(handle) => {
                let connection = self.quantum.as_ref()?.peek(handle)?;
                Some(Way { remote: connection.remote(), packets_received: connection.stats().packets_received })
            }
            Line::Quic(handle) => quic(self.quic.as_ref()?, handle),
            Line::WebTransport(handle) => {
                let wires = self.quic.as_ref()?;
                quic(wires, wires.carrier(handle)?)
            }
        }
    }
}
