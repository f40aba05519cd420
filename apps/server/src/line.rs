//! What carries a connection, and by which of it connections and peers are named.

use engine::Stream;
use handler::Peer;

/// The name of a connection on its shard: whose it is below, by slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Line {
    /// A TCP stream of the engine.
    Tcp(Stream),
    /// A connection of the shard's Quantum endpoint.
    Quantum(quantum::Handle),
    /// A connection of the shard's QUIC endpoint.
    Quic(quic::Handle),
    /// A WebTransport session on one of those.
    WebTransport(SessionHandle),
}

/// A WebTransport session of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionHandle {
    /// The slot, dense and small.
    pub index: u32,
    /// Counts the uses of all slots.
    pub generation: u32,
}

impl Line {
    /// How many kinds there are.
    pub(crate) const KINDS: usize = 4;

    /// Its kind and its slot among those of its kind.
    pub(crate) fn place(self) -> (usize, u32) {
        match self {
            Self::Tcp(stream) => (0, stream.index),
            Self::Quantum(handle) => (1, handle.index),
            Self::Quic(handle) => (2, handle.index),
            Self::WebTransport(handle) => (3, handle.index),
        }
    }

    fn generation(self) -> u32 {
        match self {
            Self::Tcp(stream) => stream.generation,
            Self::Quantum(handle) => handle.generation,
            Self::Quic(handle) => handle.generation,
            Self::WebTransport(handle) => handle.generation,
        }
    }

    /// The apps' name of it. The slots of all kinds are dense, so they take turns in one dense row.
    pub(crate) fn peer(self) -> Peer {
        let (kind, slot) = self.place();
        Peer { index: slot * Self::KINDS as u32 + kind as u32, generation: self.generation() }
    }
}
