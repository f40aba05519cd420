//! What carries a connection, and by which of it connections and peers are named.

use engine::Stream;
use handler::Peer;
use quantum::Handle;

/// The name of a connection on its shard: whose it is below, by slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Line {
    /// A TCP stream of the engine.
    Tcp(Stream),
    /// A connection of the shard's Quantum endpoint.
    Quantum(Handle),
}

impl Line {
    /// The apps' name of it. The slots of both kinds are dense, so they take turns in one dense row.
    pub(crate) fn peer(self) -> Peer {
        match self {
            Self::Tcp(Stream { index, generation }) => Peer { index: index * KINDS, generation },
            Self::Quantum(handle) => Peer { index: handle.index * KINDS + 1, generation: handle.generation },
        }
    }
}

const KINDS: u32 = 2;
