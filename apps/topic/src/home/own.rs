//! What the app itself does at a home: it says something, raises marks, and looks at what is there.

use std::sync::Arc;

use handler::{Cx, Level, Peer, ShardId};

use super::Home;
use crate::{
    desk::Desk,
    mail::{Letter, Mail, Parcel, Refusal},
    record::Record,
    topic::Topic,
    watermark::Watermark,
};

/// Stands for the app itself where a peer is expected.
pub const NO_PEER: Peer = Peer { index: u32::MAX, generation: u32::MAX };

impl Home {
    /// Publishes what nobody waits for.
    pub(crate) fn publish_own(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (topic, from): (&str, &str),
        body: &[u8],
    ) -> Result<Option<(u64, Level)>, Refusal> {
        let (parcel, here) = (desk.pack(cx, &[topic, from], body), cx.shard);
        self.publish(cx, desk, (here, NO_PEER, 0), None, &parcel)
    }

    /// Relays an ephemeral value of the server's own.
    pub(crate) fn wave_own(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (topic, from, key): (&str, &str, &str),
        body: &[u8],
    ) {
        let (parcel, here) = (desk.pack(cx, &[topic, from, key], body), cx.shard);
        self.on_wave(cx, desk, here, NO_PEER, &parcel);
    }

    /// Raises a user's marks.
    pub(crate) fn raise(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (topic, user): (&str, &str),
        marks: (u64, u64),
    ) {
        let parcel = desk.pack(cx, &[topic, user], &[]);
        self.on_ack(cx, desk, marks, &parcel);
    }

    /// Whether a publication has its place already, or is about to get it.
    pub(crate) fn is_repeat(&self, desk: &mut Desk, seq: Option<u64>, parcel: &Parcel) -> bool {
        let (Some(place), Some(seq)) = (self.find(parcel.text(0)), seq) else { return false };
        let (user, device) = (desk.names.intern(parcel.text(1)), desk.names.intern(parcel.text(2)));
        self.topics[place].find(&user, &device, seq).is_some()
    }

    /// Answers mail to the home with a refusal; what nobody waits for is dropped.
    pub(crate) fn refuse(cx: &mut Cx<'_, Mail>, from: ShardId, letter: &Letter, refusal: Refusal) {
        let answer = match *letter {
            Letter::Subscribe { listener, sub, .. } => Letter::Refused { listener, sub, refusal },
            Letter::Publish { peer, id, .. } | Letter::Browse { peer, id, .. } => {
                Letter::Rejected { peer, id, refusal }
            }
            _ => return,
        };
        cx.mail(from, Mail(answer));
    }

    /// The message at an offset, if it is in memory.
    pub(crate) fn peek(&self, topic: &str, offset: u64) -> Option<Record<'_>> {
        self.at_home(topic)?.history.get(offset)
    }

    /// The marks of all users of a topic, by name.
    pub(crate) fn marks(&self, topic: &str) -> impl Iterator<Item = (&Arc<str>, Watermark)> {
        self.at_home(topic).into_iter().flat_map(|topic| topic.watermarks.iter())
    }

    pub(crate) fn at_home(&self, topic: &str) -> Option<&Topic> {
        self.topics.get(self.find(topic)?).map(|topic| &**topic)
    }
}
