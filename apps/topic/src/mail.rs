//! What a topic's home and the shards that listen to it write each other. Texts and bodies travel packed in one piece of
//! shared memory, so that a letter costs one copy and no allocation.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use handler::{Code, Cx, Level, Peer, ShardId};

use crate::limit::NAME_BYTES_MAX;

/// Mail of topics between shards; only [`crate::Topics`] reads it.
#[derive(Clone, Debug)]
pub struct Mail(pub(crate) Letter);

const _: () = assert!(size_of::<Mail>() <= 128, "a mailbox slot holds two cache lines");

/// A shard's entry of a topic that it listens to. The generation keeps mail for a gone entry from its successor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Listener {
    pub(crate) alias: u32,
    pub(crate) generation: u32,
}

/// One subscription: its peer, and a number that no later subscription of the same peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SubId {
    pub(crate) peer: Peer,
    pub(crate) ticket: u32,
}

/// Up to three texts and a body, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    ends: [u16; 3],
    /// Whether the user in it is a guest.
    pub(crate) guest: bool,
    /// What the app knows of the body.
    pub(crate) hint: u8,
    data: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) enum Letter {
    // To the home.
    /// Texts: topic, user.
    Subscribe { listener: Listener, sub: SubId, epoch: Option<u64>, after: Option<u64>, parcel: Parcel },
    /// Texts: topic, user.
    Unsubscribe { parcel: Parcel },
    /// Texts: topic.
    Pull { listener: Listener, sub: SubId, next: u64, parcel: Parcel },
    /// Texts: topic, user, device; and the body.
    Publish { peer: Peer, id: u32, seq: Option<u64>, parcel: Parcel },
    /// Texts: topic, user, key; and the body.
    Wave { peer: Peer, parcel: Parcel },
    /// Texts: topic, user.
    Ack { delivered: u64, read: u64, parcel: Parcel },
    /// Texts: topic, user.
    Browse { peer: Peer, id: u32, before: Option<u64>, limit: u32, parcel: Parcel },

    /// Whatever the app says to itself.
    App(Arc<dyn Any + Send + Sync>),

    // From the home.
    /// The parcel of the `Subscribe`, and the names of a small room.
    Subscribed { listener: Listener, sub: SubId, epoch: u64, next: u64, head: u64, count: u32, parcel: Parcel },
    /// Who is there already, when they are few: follows `Subscribed`.
    Roster { listener: Listener, sub: SubId, count: u32, names: Bytes },
    /// The subscription was not made.
    Refused { listener: Listener, sub: SubId, refusal: Refusal },
    /// The parcel of the `Publish`.
    Published { peer: Peer, id: u32, offset: u64, level: Level, parcel: Parcel },
    /// The message was not taken.
    Rejected { peer: Peer, id: u32, refusal: Refusal },
    /// Records from `first` on, for a pull from `next`.
    Chunk { listener: Listener, sub: SubId, next: u64, first: u64, head: u64, records: Bytes },
    /// Texts: user; and the body.
    Deliver { listener: Listener, offset: u64, at_ms: u64, parcel: Parcel },
    /// Texts: user, key; and the body.
    Waved { listener: Listener, shard: ShardId, peer: Peer, parcel: Parcel },
    /// Who came and went.
    Presence { listener: Listener, count: u32, joined: Bytes, left: Bytes },
    /// The parcel of the `Browse`.
    Page { peer: Peer, id: u32, page: Box<PageLetter> },
}

/// A page of history; rare, so it may cost an allocation.
#[derive(Clone, Debug)]
pub(crate) struct PageLetter {
    pub(crate) epoch: u64,
    pub(crate) head: u64,
    pub(crate) first: u64,
    pub(crate) more: bool,
    pub(crate) parcel: Parcel,
    pub(crate) records: Bytes,
}

/// Why something was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: &'static str,
    pub(crate) retry_ms: Option<u32>,
}

impl Parcel {
    /// Packs texts and a body.
    pub(crate) fn pack(cx: &mut Cx<'_, Mail>, scratch: &mut Vec<u8>, texts: &[&str], body: &[u8]) -> Self {
        assert!(
            texts.len() <= 3 && texts.iter().all(|text| text.len() <= NAME_BYTES_MAX),
            "a parcel has few short texts"
        );
        scratch.clear();
        let mut ends = [0; 3];
        for (n, end) in ends.iter_mut().enumerate() {
            scratch.extend_from_slice(texts.get(n).map_or(&[], |text| text.as_bytes()));
            *end = u16::try_from(scratch.len()).expect("asserted above");
        }
        scratch.extend_from_slice(body);
        Self { ends, guest: false, hint: 0, data: cx.copy(scratch) }
    }

    /// The same from a guest, or not.
    pub(crate) fn of_guest(self, guest: bool) -> Self {
        Self { guest, ..self }
    }

    /// The same with another body.
    pub(crate) fn with_body(&self, body: &[u8]) -> Self {
        let texts = &self.data[..usize::from(self.ends[2])];
        Self { data: [texts, body].concat().into(), ..*self }
    }

    /// The text that was packed at this place.
    pub(crate) fn text(&self, place: usize) -> &str {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        let bytes = &self.data[usize::from(start)..usize::from(self.ends[place])];
        str::from_utf8(bytes).expect("a parcel is packed from texts")
    }

    /// The body.
    pub(crate) fn body(&self) -> &[u8] {
        &self.data[usize::from(self.ends[2])..]
    }

    /// The body, sharing this parcel's memory.
    pub(crate) fn share_body(&self) -> Bytes {
        self.data.slice(usize::from(self.ends[2])..)
    }
}
