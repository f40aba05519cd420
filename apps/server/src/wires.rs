//! What connections write through: the ciphertext of TLS on its way to the ring, and the endpoint of Quantum.

use std::collections::VecDeque;

use bytes::BytesMut;
use quantum::{Connection, Endpoint, Handle};

use crate::line::Line;

/// What a shard's connections share on their way out.
#[derive(Default)]
pub(crate) struct Wires {
    /// Empty between uses; keeps its memory.
    pub(crate) cipher: BytesMut,
    /// All Quantum connections of the shard, if Quantum is served.
    pub(crate) quantum: Option<Box<Endpoint>>,
    /// Connections that have something queued. Quantum sends without an event, so these are looked at.
    pub(crate) watched: VecDeque<Line>,
    /// Trains have left since.
    pub(crate) stirred: bool,
}

impl Wires {
    /// A Quantum connection, as long as it is there.
    pub(crate) fn connection(&mut self, handle: Handle) -> Option<&mut Connection> {
        self.quantum.as_mut()?.connection(handle)
    }

    /// The same to be looked at only: it is not asked for output again.
    pub(crate) fn peek(&self, handle: Handle) -> Option<&Connection> {
        self.quantum.as_ref()?.peek(handle)
    }
}
