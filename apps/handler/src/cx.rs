//! What an app may ask for: `Cx`, and the plain queue of effects behind it.

use std::{ops::Range, time::Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;

use crate::{
    ShardId,
    app::{Close, Peer, Timer},
    disk::{DiskOperation, Ticket},
    home::Map,
    message::Push,
};

/// One thing that an app asks for.
#[derive(Debug)]
pub enum Effect<M> {
    /// Tell one peer.
    Send {
        /// Whom.
        peer: Peer,
        /// What.
        push: Push,
    },
    /// Tell many peers the same; it is encoded once per codec.
    Publish {
        /// Whom: a range of [`Out::peers`].
        peers: Range<usize>,
        /// What.
        push: Push,
    },
    /// Mail to this app on another shard, or this one.
    Mail {
        /// To whom.
        to: ShardId,
        /// What.
        mail: M,
    },
    /// Call `on_timer` at this time; a timer that is already set is moved.
    WakeAt {
        /// Which timer.
        timer: Timer,
        /// When.
        at: Instant,
    },
    /// Do something on the disk.
    Disk {
        /// Comes back in `on_disk`.
        ticket: Ticket,
        /// What.
        operation: DiskOperation,
    },
    /// End a session.
    Close {
        /// Whose.
        peer: Peer,
        /// Why.
        reason: Close,
    },
}

/// The queue of effects of one app; it keeps its memory from call to call.
#[derive(Debug)]
pub struct Out<M> {
    /// In the order asked for.
    pub effects: Vec<Effect<M>>,
    /// The peers of all `Publish` effects.
    pub peers: Vec<Peer>,
}

impl<M> Default for Out<M> {
    fn default() -> Self {
        Self { effects: Vec::new(), peers: Vec::new() }
    }
}

impl<M> Out<M> {
    /// Gives back the emptied lists of the last round, so that their memory is used again.
    pub fn restore(&mut self, mut effects: Vec<Effect<M>>, mut peers: Vec<Peer>) {
        effects.clear();
        peers.clear();
        if self.effects.is_empty() && self.peers.is_empty() {
            self.effects = effects;
            self.peers = peers;
        }
    }
}

/// The time, the place, and the queue of what an app asks for.
#[derive(Debug)]
pub struct Cx<'a, M> {
    /// The time of this turn.
    pub now: Instant,
    /// Milliseconds since 1970, for records.
    pub wall_ms: u64,
    /// This shard.
    pub shard: ShardId,
    /// Random numbers of this shard.
    pub rng: &'a mut StdRng,
    /// Which shard owns which key.
    pub map: &'a Map,
    /// Where bodies are copied to that must live longer than the call.
    pub arena: &'a mut dyn Copier,
    /// The queue.
    pub out: &'a mut Out<M>,
}

/// Copies bytes into shared memory without an allocation per call.
pub trait Copier: std::fmt::Debug {
    /// The same bytes, shared.
    fn copy(&mut self, bytes: &[u8]) -> Bytes;
}

impl Copier for BytesMut {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.extend_from_slice(bytes);
        self.split().freeze()
    }
}

impl<M> Cx<'_, M> {
    /// The shard that owns `key`.
    #[must_use]
    pub fn home(&self, key: &str) -> ShardId {
        self.map.home(key)
    }

    /// The same bytes in shared memory.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.arena.copy(bytes)
    }

    /// Tells one peer.
    pub fn send(&mut self, peer: Peer, push: Push) {
        self.out.effects.push(Effect::Send { peer, push });
    }

    /// Tells many peers the same.
    pub fn publish(&mut self, peers: impl IntoIterator<Item = Peer>, push: Push) {
        let start = self.out.peers.len();
        self.out.peers.extend(peers);
        let peers = start..self.out.peers.len();
        if !peers.is_empty() {
            self.out.effects.push(Effect::Publish { peers, push });
        }
    }

    /// Mails this app on another shard, or this one: order per pair of shards is kept.
    pub fn mail(&mut self, to: ShardId, mail: M) {
        self.out.effects.push(Effect::Mail { to, mail });
    }

    /// Calls `on_timer` at this time; a timer that is already set is moved.
    pub fn wake_at(&mut self, timer: Timer, at: Instant) {
        self.out.effects.push(Effect::WakeAt { timer, at });
    }

    /// Starts a disk operation.
    pub fn disk(&mut self, ticket: Ticket, operation: DiskOperation) {
        self.out.effects.push(Effect::Disk { ticket, operation });
    }

    /// Ends a session.
    pub fn close(&mut self, peer: Peer, reason: Close) {
        self.out.effects.push(Effect::Close { peer, reason });
    }
}
