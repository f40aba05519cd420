//! The sending side of all channels.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    CHANNELS_MAX,
    channel::{Change, Channel},
    cost,
};
use crate::{
    frame::{Delivery, Frame},
    item::Item,
    lane::{
        limits::{LaneEvent, MessageError, PRIORITY_MAX, PeerLimits},
        payload::Payload,
        schedule::{Lane, Slot},
        send::Class,
        streams::{Agenda, CONTROL_BYTES_MAX, Turn},
    },
};

/// What an application asks for when it sends a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::lane) struct Wish {
    pub(in crate::lane) channel: u64,
    pub(in crate::lane) delivery: Delivery,
    pub(in crate::lane) priority: u8,
    pub(in crate::lane) deadline: Option<Duration>,
}

/// All channels that were ever sent on: what is left of an idle one is its number.
#[derive(Default, Debug)]
pub(in crate::lane) struct Sender {
    channels: BTreeMap<u64, Box<Channel>>,
    /// Channels with a floor to tell, in no order.
    floors: Vec<u64>,
    /// Cost of what is unresolved.
    unresolved: u64,
    /// Bytes that were never sent.
    unsent: u64,
    /// A message was refused.
    is_wanted: bool,
    /// No message that waits expires before.
    expires_at: Option<Instant>,
    pub(in crate::lane) expired: u64,
    pub(in crate::lane) superseded: u64,
}

impl Sender {
    /// Bytes that were never sent.
    pub(in crate::lane) fn unsent(&self) -> u64 {
        self.unsent
    }

    /// When something expires.
    pub(in crate::lane) fn deadline(&self) -> Option<Instant> {
        self.expires_at
    }

    /// A refused message may be tried again.
    pub(in crate::lane) fn wake(&mut self, agenda: &mut Agenda) {
        if std::mem::take(&mut self.is_wanted) {
            agenda.events.push(LaneEvent::MessagesWritable);
        }
    }

    /// Whether what is unresolved is no more than another peer allows.
    pub(in crate::lane) fn fits(&self, peer: &PeerLimits) -> bool {
        let mut channels = self.channels.values();
        self.unresolved <= peer.message_bytes_max && channels.all(|channel| channel.longest() <= peer.message_max)
    }

    pub(in crate::lane) fn send(
        &mut self,
        agenda: &mut Agenda,
        now: Instant,
        peer: &PeerLimits,
        wish: Wish,
        bytes: Bytes,
    ) -> Result<u64, MessageError> {
        self.expire(agenda, now);
        let (total, cost) = (bytes.len() as u64, cost(bytes.len() as u64));
        if peer.message_bytes_max == 0 {
            self.is_wanted = true;
            return Err(MessageError::Blocked);
        }
        if total > peer.message_max || cost > peer.message_bytes_max || u32::try_from(total).is_err() {
            return Err(MessageError::TooLong);
        }
        if let Some(channel) = self.channels.get(&wish.channel) {
            if channel.delivery != wish.delivery {
                return Err(MessageError::Delivery);
            }
            if channel.is_full() {
                self.is_wanted = true;
                return Err(MessageError::Blocked);
            }
        } else if self.channels.len() >= CHANNELS_MAX {
            return Err(MessageError::Channels);
        }
        if self.unresolved + cost > peer.message_bytes_max {
            self.is_wanted = true;
            return Err(MessageError::Blocked);
        }
        Ok(self.push(agenda, now, wish, bytes, cost))
    }

    fn push(&mut self, agenda: &mut Agenda, now: Instant, wish: Wish, bytes: Bytes, cost: u64) -> u64 {
        let deadline = wish.deadline.and_then(|deadline| now.checked_add(deadline));
        self.expire_at(deadline);
        self.unresolved += cost;
        self.unsent += bytes.len() as u64;
        let channel =
            self.channels.entry(wish.channel).or_insert_with(|| Channel::new(wish.channel, wish.delivery).into());
        let mut change = Change::default();
        let number = channel.push(wish.priority.min(PRIORITY_MAX), deadline, bytes, &mut change);
        self.settle(agenda, wish.channel, change);
        number
    }

    fn expire_at(&mut self, deadline: Option<Instant>) {
        self.expires_at = [self.expires_at, deadline].into_iter().flatten().min();
    }

    /// Gives up what waits and is expired.
    pub(in crate::lane) fn expire(&mut self, agenda: &mut Agenda, now: Instant) {
        if self.expires_at.is_none_or(|at| at > now) {
            return;
        }
        self.expires_at = None;
        let mut from = 0;
        while let Some((&id, channel)) = self.channels.range_mut(from..).next() {
            let mut change = Change::default();
            let next = channel.expire(now, &mut change);
            self.expire_at(next);
            self.settle(agenda, id, change);
            from = id + 1;
        }
    }

    /// Brings the books, the schedule and the floors up to date after a channel changed.
    fn settle(&mut self, agenda: &mut Agenda, id: u64, change: Change) {
        self.unresolved -= change.resolved;
        self.unsent -= change.unqueued;
        self.expired += change.expired;
        self.superseded += change.superseded;
        if let Some(channel) = self.channels.get_mut(&id) {
            for class in [Class::Lost, Class::Fresh] {
                let (wanted, scheduled) = channel.schedule(class);
                let before = std::mem::replace(scheduled, wanted);
                if before != wanted {
                    before
                        .into_iter()
                        .for_each(|priority| agenda.schedule.remove(Slot::new(priority, class), Lane::Channel(id)));
                    wanted
                        .into_iter()
                        .for_each(|priority| agenda.schedule.push(Slot::new(priority, class), Lane::Channel(id)));
                }
            }
            if channel.is_floor_due() && !self.floors.contains(&id) {
                self.floors.push(id);
            }
        }
        if change.resolved > 0 {
            self.wake(agenda);
        }
    }

    /// Gives a channel its turn: one MESSAGE frame of a class. The schedule is up to date afterwards, which is why the
    /// turn is not over for the caller to note: whether a frame was written is.
    pub(in crate::lane) fn write(
        &mut self,
        agenda: &mut Agenda,
        id: u64,
        class: Class,
        may_cut: impl FnOnce(usize) -> bool,
        payload: &mut Payload<'_>,
    ) -> Turn {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Turn::Done;
        };
        let mut change = Change::default();
        let turn = channel.write(class, may_cut, payload, &mut change);
        self.unsent -= std::mem::take(&mut change.unqueued);
        // Only a change of the most urgent priority moves the channel.
        let (wanted, scheduled) = channel.schedule(class);
        match turn {
            Turn::Done => *scheduled = None,
            Turn::More if wanted != *scheduled => {
                *scheduled = wanted;
                wanted
                    .into_iter()
                    .for_each(|priority| agenda.schedule.push(Slot::new(priority, class), Lane::Channel(id)));
                return Turn::Done;
            }
            Turn::More | Turn::NoRoom => {}
        }
        turn
    }

    pub(in crate::lane) fn has_control(&self) -> bool {
        !self.floors.is_empty()
    }

    /// Appends MESSAGE_FLOOR frames.
    pub(in crate::lane) fn write_control(&mut self, payload: &mut Payload<'_>) {
        while payload.room() >= CONTROL_BYTES_MAX
            && let Some(channel) = self.floors.pop()
        {
            if let Some(floor) = self.channels.get_mut(&channel).and_then(|channel| channel.tell_floor()) {
                payload.put(Frame::MessageFloor { channel, floor }, Item::MessageFloor { channel, floor });
            }
        }
    }

    pub(in crate::lane) fn on_acked(&mut self, agenda: &mut Agenda, item: &Item) {
        let mut change = Change::default();
        let id = match *item {
            Item::Message { channel: id, number, offset, len } => {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.on_acked(number, offset, len, &mut change);
                }
                id
            }
            Item::MessageFloor { channel: id, floor } => {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.resolve_below(floor, &mut change);
                }
                id
            }
            _ => return,
        };
        self.settle(agenda, id, change);
    }

    pub(in crate::lane) fn on_lost(&mut self, agenda: &mut Agenda, now: Instant, item: &Item) {
        let mut change = Change::default();
        let id = match *item {
            Item::Message { channel: id, number, offset, len } => {
                let channel = self.channels.get_mut(&id);
                let deadline = channel.and_then(|channel| channel.on_lost(now, number, offset, len, &mut change));
                self.expire_at(deadline);
                id
            }
            Item::MessageFloor { channel: id, floor } => {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.on_floor_lost(floor);
                }
                id
            }
            _ => return,
        };
        self.settle(agenda, id, change);
    }

    /// Gives idle memory back.
    pub(in crate::lane) fn trim(&mut self) {
        self.floors.shrink_to_fit();
        self.channels.values_mut().for_each(|channel| channel.trim());
    }
}
