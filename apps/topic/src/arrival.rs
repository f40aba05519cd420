//! What homes write to a shard that listens: answers to its peers, and what is passed on to them.

use std::sync::Arc;

use bytes::Bytes;
use handler::{Cx, Level, Peer, Push, ShardId};

use crate::{
    desk::Desk,
    due::Chore,
    limit::EPHEMERAL_AGE_MAX,
    listening::Listening,
    local::Local,
    mail::{Letter, Listener, Mail, Parcel, Refusal, SubId},
    member::State,
    record::Records,
};

impl Local {
    pub(crate) fn on_subscribed(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (listener, sub_id): (Listener, SubId),
        (epoch, next, head): (u64, u64, u64),
        count: u32,
        parcel: Parcel,
    ) {
        let Some(listening) = self.aliases.heard(listener) else { return };
        let SubId { peer, ticket } = sub_id;
        listening.pending -= 1;
        (listening.head, listening.count) = (head, count);
        let member = self.members.get_mut(peer);
        let lagging = member.as_ref().is_some_and(|member| member.lagging);
        let sub = member.and_then(|member| member.subs.iter_mut().find(|sub| sub.ticket == ticket));
        let Some(sub) = sub else {
            // The peer has unsubscribed or left meanwhile.
            cx.mail(listening.home, Mail(Letter::Unsubscribe { parcel }));
            return self.aliases.tidy(&mut desk.due, listener.alias);
        };
        let State::Waiting { id } = sub.state else { return };
        let (topic, alias) = (listening.name.clone(), listener.alias);
        cx.send(peer, Push::SubOk { id, topic, alias, epoch, head });
        sub.told = Some(count);
        if next > head {
            sub.state = listening.enter(peer);
        } else {
            sub.state = State::Pulling { next, asked: false, lagged: false };
            if !lagging {
                sub.pull(cx, desk, peer, listening);
            }
        }
    }

    pub(crate) fn on_roster(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (listener, sub_id): (Listener, SubId),
        count: u32,
        names: &[u8],
    ) {
        let Some(listening) = self.aliases.heard(listener) else { return };
        if self.members.sub_mut(sub_id.peer, sub_id.ticket).is_some() {
            let (joined, left) = (desk.unpack_names(names), Arc::new([]));
            let (topic, alias) = (listening.name.clone(), listener.alias);
            cx.send(sub_id.peer, Push::Presence { topic, alias, joined, left, count });
        }
    }

    pub(crate) fn on_refused(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (listener, sub): (Listener, SubId),
        refusal: Refusal,
    ) {
        let Some(listening) = self.aliases.heard(listener) else { return };
        listening.pending -= 1;
        let member = self.members.get_mut(sub.peer);
        let place = member.as_ref().and_then(|member| member.subs.iter().position(|s| s.ticket == sub.ticket));
        if let (Some(member), Some(place)) = (member, place) {
            let State::Waiting { id } = member.subs.swap_remove(place).state else { return };
            listening.subs -= 1;
            desk.refuse(cx, sub.peer, Some(id), refusal);
        }
        self.aliases.tidy(&mut desk.due, listener.alias);
    }

    pub(crate) fn on_published(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (peer, id): (Peer, u32),
        (offset, level): (u64, Level),
        parcel: &Parcel,
    ) {
        if self.members.get(peer).is_some() {
            let topic = desk.names.intern(parcel.text(0)).text;
            cx.send(peer, Push::PubOk { id, topic, offset, level });
        }
    }

    pub(crate) fn on_rejected(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (peer, id): (Peer, u32),
        refusal: Refusal,
    ) {
        if self.members.get(peer).is_some() {
            desk.refuse(cx, peer, Some(id), refusal);
        }
    }

    /// A new message: everybody who is live gets it, in one push.
    pub(crate) fn on_deliver(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        listener: Listener,
        (offset, at_ms): (u64, u64),
        parcel: &Parcel,
    ) {
        let Some(listening) = self.aliases.heard(listener) else { return };
        assert_eq!(offset, listening.head + 1, "mail of a home arrives in order");
        listening.head = offset;
        desk.stats.delivered += 1;
        desk.stats.pushed += listening.live.len() as u64;
        let (topic, alias, from) = (listening.name.clone(), listener.alias, desk.names.intern(parcel.text(0)).text);
        let push = Push::Msg { topic, alias, offset, from, at_ms, body: parcel.share_body() };
        cx.publish(listening.live.iter().copied(), push);
    }

    /// A piece of history. When it reaches the head, the peer is live from here on: what was delivered before is in it,
    /// what is delivered later comes after it.
    pub(crate) fn on_chunk(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (listener, sub_id): (Listener, SubId),
        (asked_from, first, head): (u64, u64, u64),
        records: &Bytes,
    ) {
        let Some(listening) = self.aliases.heard(listener) else { return };
        let peer = sub_id.peer;
        let Some(member) = self.members.get_mut(peer) else { return };
        let lagging = member.lagging;
        let Some(sub) = member.subs.iter_mut().find(|sub| sub.ticket == sub_id.ticket) else { return };
        let State::Pulling { next, lagged, .. } = sub.state else { return };
        sub.state = State::Pulling { next, asked: false, lagged };
        if lagging {
            return;
        }
        if next != asked_from {
            // It fell further behind while this was on its way.
            return sub.pull(cx, desk, peer, listening);
        }
        let next = listening.replay(cx, desk, (listener.alias, peer), (next, first), records);
        if next <= head {
            sub.state = State::Pulling { next, asked: false, lagged };
            return sub.pull(cx, desk, peer, listening);
        }
        sub.state = listening.enter(peer);
        let told = sub.told.take();
        listening.welcome_back(cx, (listener.alias, peer), told, lagged);
    }

    /// A new ephemeral value: everybody who is live gets it, but not who sent it.
    pub(crate) fn on_waved(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        listener: Listener,
        origin: (ShardId, Peer),
        parcel: &Parcel,
    ) {
        let Some(listening) = self.aliases.heard(listener) else { return };
        let (from, key) = (desk.names.intern(parcel.text(0)), desk.names.intern(parcel.text(1)));
        let (topic, alias) = (listening.name.clone(), listener.alias);
        let push =
            Push::Eph { topic, alias, from: from.text.clone(), key: key.text.clone(), body: parcel.share_body() };
        listening.newest.put(cx.now, origin, from, key, parcel.body());
        if listening.newest.due.is_none() {
            let at = cx.now + EPHEMERAL_AGE_MAX;
            listening.newest.due = Some(at);
            desk.due.plan(cx, at, Chore::Expire(alias));
        }
        let here = cx.shard;
        cx.publish(listening.live.iter().copied().filter(|peer| (here, *peer) != origin), push);
    }

    pub(crate) fn on_presence(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        listener: Listener,
        count: u32,
        (joined, left): (&[u8], &[u8]),
    ) {
        let Some(listening) = self.aliases.heard(listener) else { return };
        listening.count = count;
        let (joined, left) = (desk.unpack_names(joined), desk.unpack_names(left));
        let (topic, alias) = (listening.name.clone(), listener.alias);
        cx.publish(listening.live.iter().copied(), Push::Presence { topic, alias, joined, left, count });
    }
}

impl Listening {
    /// Pushes records of the history to one peer; gives the first offset that it has not got.
    fn replay(
        &self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (alias, peer): (u32, Peer),
        (next, first): (u64, u64),
        records: &Bytes,
    ) -> u64 {
        if first > next {
            desk.stats.gaps += 1;
            cx.send(peer, Push::Gap { topic: self.name.clone(), alias, first });
        }
        let mut next = first;
        for (record, body) in Records::new(records, first) {
            let from = desk.names.intern(record.from).text;
            let (topic, offset, at_ms, body) = (self.name.clone(), record.offset, record.at_ms, records.slice(body));
            cx.send(peer, Push::Msg { topic, alias, offset, from, at_ms, body });
            desk.stats.replayed += 1;
            next = offset + 1;
        }
        next
    }

    /// Tells a peer that is live again what it missed beside messages.
    fn welcome_back(&self, cx: &mut Cx<'_, Mail>, (alias, peer): (u32, Peer), told: Option<u32>, lagged: bool) {
        if told != Some(self.count) {
            let (topic, count) = (self.name.clone(), self.count);
            cx.send(peer, Push::Presence { topic, alias, joined: Arc::new([]), left: Arc::new([]), count });
        }
        if !lagged {
            return;
        }
        for value in self.newest.for_reader(cx.now, (cx.shard, peer)) {
            let (from, key) = (value.from.text.clone(), value.key.text.clone());
            let body = cx.copy(&value.body);
            cx.send(peer, Push::Eph { topic: self.name.clone(), alias, from, key, body });
        }
    }
}
