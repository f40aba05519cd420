//! The messages of one channel that are not resolved yet: waiting, under way, or given up without the peer knowing.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{NUMBERS_MAX, cost, span};
use crate::{
    frame::{Delivery, Frame, Message},
    item::Item,
    lane::{payload::Payload, send::Class, streams::Turn},
    range::RangeSet,
};

/// A fragment carries at least so many bytes, or the message waits for the next packet.
const FRAGMENT_MIN: u64 = 256;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Live,
    /// The peer has it; with what it still costs it, when it waits there for others.
    Acked {
        cost: u64,
    },
    /// It expired or was superseded; with what it still costs the peer, as pieces of it may lie there.
    Abandoned {
        cost: u64,
    },
}

/// One message.
#[derive(Debug)]
struct Outgoing {
    bytes: Bytes,
    fate: Fate,
    priority: u8,
    deadline: Option<Instant>,
    /// All places below were sent at least once.
    sent: u64,
    acked: RangeSet,
    lost: RangeSet,
}

impl Outgoing {
    fn total(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Places that have to be acknowledged.
    fn places(&self) -> u64 {
        self.total().max(1)
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Numbers of messages that wait for transmission, the most urgent first.
#[derive(Default, Debug)]
struct Waiting {
    numbers: VecDeque<(u8, u64)>,
    /// The priority under which the channel stands in the schedule for them.
    scheduled: Option<u8>,
}

impl Waiting {
    fn insert(&mut self, priority: u8, number: u64) {
        let at = self.numbers.partition_point(|other| *other < (priority, number));
        if self.numbers.get(at) != Some(&(priority, number)) {
            self.numbers.insert(at, (priority, number));
        }
    }

    fn remove(&mut self, priority: u8, number: u64) {
        if let Ok(at) = self.numbers.binary_search(&(priority, number)) {
            self.numbers.remove(at);
        }
    }
}

/// What changed in a channel: for the totals of all channels.
#[derive(Default, Debug)]
pub(super) struct Change {
    /// Unresolved bytes that are resolved now.
    pub(super) resolved: u64,
    /// Bytes that will not be sent for the first time any more: they were, or they were given up.
    pub(super) unqueued: u64,
    /// Messages whose deadline passed.
    pub(super) expired: u64,
    /// Messages that a newer one replaced.
    pub(super) superseded: u64,
}

/// The sending side of a channel.
#[derive(Debug)]
pub(super) struct Channel {
    id: u64,
    pub(super) delivery: Delivery,
    /// The number of the first message in `messages`.
    first: u64,
    messages: VecDeque<Outgoing>,
    lost: Waiting,
    fresh: Waiting,
    /// The highest floor that was told, and is not known to be lost.
    floor_told: u64,
}

impl Channel {
    pub(super) fn new(id: u64, delivery: Delivery) -> Self {
        Self {
            id,
            delivery,
            first: 0,
            messages: VecDeque::new(),
            lost: Waiting::default(),
            fresh: Waiting::default(),
            floor_told: 0,
        }
    }

    /// The number of the next message.
    fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// Bytes of the longest message that is not resolved.
    pub(super) fn longest(&self) -> u64 {
        self.messages.iter().map(Outgoing::total).max().unwrap_or(0)
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() as u64 >= NUMBERS_MAX
    }

    /// Queues a message and says its number.
    pub(super) fn push(&mut self, priority: u8, deadline: Option<Instant>, bytes: Bytes, change: &mut Change) -> u64 {
        if self.delivery == Delivery::Newest {
            self.supersede(change);
        }
        let number = self.next();
        self.messages.push_back(Outgoing {
            bytes,
            fate: Fate::Live,
            priority,
            deadline,
            sent: 0,
            acked: RangeSet::new(),
            lost: RangeSet::new(),
        });
        self.fresh.insert(priority, number);
        number
    }

    /// A newer message comes: older ones that wait are not worth sending. The last one gives its number back if it was
    /// never sent; no floor was told beyond it, as it was live.
    fn supersede(&mut self, change: &mut Change) {
        let is_unsent = self.messages.back().is_some_and(|last| last.fate == Fate::Live && last.sent == 0);
        while let Some((priority, number)) = self.lost.numbers.front().or(self.fresh.numbers.front()).copied() {
            change.superseded += u64::from(self.abandon(number, change));
            self.lost.remove(priority, number);
            self.fresh.remove(priority, number);
        }
        if is_unsent {
            self.messages.pop_back();
        }
    }

    fn get(&mut self, number: u64) -> Option<&mut Outgoing> {
        self.messages.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Gives a message up; false when it is resolved already.
    fn abandon(&mut self, number: u64, change: &mut Change) -> bool {
        let Some(message) = self.get(number).filter(|message| message.fate == Fate::Live) else {
            return false;
        };
        let (total, priority) = (message.total(), message.priority);
        // What was sent may lie with the peer, which counts it until it learns better.
        let kept = if message.sent > 0 { cost(total) } else { 0 };
        change.unqueued += total.saturating_sub(message.sent);
        change.resolved += cost(total) - kept;
        message.fate = Fate::Abandoned { cost: kept };
        message.bytes = Bytes::new();
        (message.acked, message.lost) = (RangeSet::new(), RangeSet::new());
        self.lost.remove(priority, number);
        self.fresh.remove(priority, number);
        true
    }

    /// Gives up what waits and is expired. Returns the next deadline of those that wait.
    pub(super) fn expire(&mut self, now: Instant, change: &mut Change) -> Option<Instant> {
        let waiting = self.lost.numbers.iter().chain(&self.fresh.numbers).map(|(_, number)| *number);
        let (mut expired, mut next) = (Vec::new(), None::<Instant>);
        for number in waiting {
            match self.messages.get((number - self.first) as usize) {
                Some(message) if message.is_expired(now) => expired.push(number),
                Some(Outgoing { deadline: Some(at), .. }) => next = Some(next.map_or(*at, |next| next.min(*at))),
                _ => {}
            }
        }
        for number in expired {
            change.expired += u64::from(self.abandon(number, change));
        }
        next
    }

    /// Under which priority the channel should stand in the schedule for a class, and under which it stands.
    pub(super) fn schedule(&mut self, class: Class) -> (Option<u8>, &mut Option<u8>) {
        let waiting = self.waiting(class);
        (waiting.numbers.front().map(|(priority, _)| *priority), &mut waiting.scheduled)
    }

    fn waiting(&mut self, class: Class) -> &mut Waiting {
        match class {
            Class::Lost => &mut self.lost,
            Class::Fresh => &mut self.fresh,
        }
    }

    /// Writes one MESSAGE frame of a class. `may_cut`: a message that would fit into a packet of its own is cut rather
    /// than kept for the next one.
    pub(super) fn write(
        &mut self,
        class: Class,
        may_cut: impl FnOnce(usize) -> bool,
        payload: &mut Payload<'_>,
        change: &mut Change,
    ) -> Turn {
        let (id, delivery) = (self.id, self.delivery);
        let Some((priority, number)) = self.waiting(class).numbers.front().copied() else {
            return Turn::Done;
        };
        let Some(message) = self.get(number) else {
            return Turn::Done;
        };
        let range = match class {
            Class::Lost => message.lost.first().unwrap_or(0..message.places()),
            Class::Fresh => message.sent..message.places(),
        };
        let (total, offset) = (message.total(), range.start);
        let wanted = (range.end - offset).min(total - offset.min(total));
        let Some(len) = fit(id, number, offset, total, wanted, payload.room(), may_cut) else {
            return Turn::NoRoom;
        };
        let data = &message.bytes[offset as usize..(offset + len) as usize];
        let item = Item::Message { channel: id, number, offset: offset as u32, len: len as u32 };
        payload.put(Frame::Message(Message { channel: id, number, delivery, offset, total, data }), item);
        let place = span(offset, len, total);
        let is_over = match class {
            Class::Lost => {
                message.lost.remove(place);
                message.lost.is_empty()
            }
            Class::Fresh => {
                message.sent = place.end;
                change.unqueued += len;
                message.sent == message.places()
            }
        };
        let waiting = self.waiting(class);
        if is_over {
            waiting.remove(priority, number);
        }
        if waiting.numbers.is_empty() { Turn::Done } else { Turn::More }
    }

    /// Takes an acknowledgement.
    pub(super) fn on_acked(&mut self, number: u64, offset: u32, len: u32, change: &mut Change) {
        let is_ordered = self.delivery == Delivery::Ordered;
        let Some(message) = self.get(number).filter(|message| message.fate == Fate::Live) else {
            return;
        };
        let (total, places) = (message.total(), message.places());
        let place = span(u64::from(offset), u64::from(len), total);
        let is_whole = place == (0..places) || {
            message.acked.insert(place.clone());
            message.acked.first() == Some(0..places)
        };
        if is_whole {
            // The peer holds an ordered message back until it has all before it.
            let kept = if is_ordered { cost(total) } else { 0 };
            change.resolved += cost(total) - kept;
            change.unqueued += total.saturating_sub(message.sent);
            message.fate = Fate::Acked { cost: kept };
            message.bytes = Bytes::new();
            let priority = message.priority;
            (message.acked, message.lost) = (RangeSet::new(), RangeSet::new());
            self.lost.remove(priority, number);
            self.fresh.remove(priority, number);
            if self.delivery == Delivery::Newest {
                // The peer forgets what is older by itself.
                self.resolve_below(number + 1, change);
            }
            self.pop_acked(change);
        } else if !message.lost.is_empty() {
            message.lost.remove(place);
            if message.lost.is_empty() {
                let priority = message.priority;
                self.lost.remove(priority, number);
            }
        }
    }

    /// Takes a loss: what still matters is sent again, until the deadline that is returned.
    pub(super) fn on_lost(
        &mut self,
        now: Instant,
        number: u64,
        offset: u32,
        len: u32,
        change: &mut Change,
    ) -> Option<Instant> {
        let is_old = self.delivery == Delivery::Newest && number + 1 < self.next();
        let message = self.get(number).filter(|message| message.fate == Fate::Live)?;
        if message.is_expired(now) {
            change.expired += u64::from(self.abandon(number, change));
            return None;
        }
        if is_old {
            change.superseded += u64::from(self.abandon(number, change));
            return None;
        }
        let place = span(u64::from(offset), u64::from(len), message.total());
        message.lost.insert_except(place, &message.acked);
        if message.lost.is_empty() {
            return None;
        }
        let (priority, deadline) = (message.priority, message.deadline);
        self.lost.insert(priority, number);
        deadline
    }

    /// The peer has everything below a number, or knows that it never will.
    pub(super) fn resolve_below(&mut self, floor: u64, change: &mut Change) {
        while self.first < floor.min(self.next()) {
            self.abandon(self.first, change);
            self.pop(change);
        }
        self.pop_acked(change);
    }

    fn pop_acked(&mut self, change: &mut Change) {
        while self.messages.front().is_some_and(|message| matches!(message.fate, Fate::Acked { .. })) {
            self.pop(change);
        }
    }

    /// Forgets the first message, which is resolved.
    fn pop(&mut self, change: &mut Change) {
        if let Some(message) = self.messages.pop_front() {
            self.first += 1;
            match message.fate {
                Fate::Acked { cost } | Fate::Abandoned { cost } => change.resolved += cost,
                Fate::Live => unreachable!("only what is resolved is forgotten"),
            }
        }
    }

    /// The floor that the peer has to be told: it waits for messages at the front that never come.
    pub(super) fn floor(&self) -> Option<u64> {
        let is_live = |message: &Outgoing| message.fate == Fate::Live;
        match self.messages.front()?.fate {
            Fate::Abandoned { .. } => {}
            Fate::Live | Fate::Acked { .. } => return None,
        }
        let run = self.messages.iter().position(is_live);
        // The newest message tells the peer as well as a floor does.
        if self.delivery == Delivery::Newest && run.is_some() {
            return None;
        }
        Some(self.first + run.unwrap_or(self.messages.len()) as u64)
    }

    /// Whether a MESSAGE_FLOOR frame is to be sent.
    pub(super) fn is_floor_due(&self) -> bool {
        self.floor().is_some_and(|floor| floor > self.floor_told)
    }

    /// The floor is being told.
    pub(super) fn tell_floor(&mut self) -> Option<u64> {
        let floor = self.floor()?;
        self.floor_told = floor;
        Some(floor)
    }

    /// A frame that told a floor is lost; whether the news of it is.
    pub(super) fn on_floor_lost(&mut self, floor: u64) {
        if floor >= self.floor_told {
            self.floor_told = 0;
        }
    }

    /// Gives idle memory back.
    pub(super) fn trim(&mut self) {
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
            (self.lost.numbers, self.fresh.numbers) = (VecDeque::new(), VecDeque::new());
        }
    }
}

/// How many of the `wanted` bytes at `offset` a frame takes in `room`.
fn fit(
    id: u64,
    number: u64,
    offset: u64,
    total: u64,
    wanted: u64,
    room: usize,
    may_cut: impl FnOnce(usize) -> bool,
) -> Option<u64> {
    let whole = Message::overhead(id, number, offset, total, wanted as usize) + wanted as usize;
    if whole <= room {
        return Some(wanted);
    }
    let head = Message::overhead(id, number, offset.max(1), total, wanted as usize);
    let len = room.checked_sub(head)? as u64;
    (len >= FRAGMENT_MIN.min(wanted) && len > 0 && may_cut(whole)).then_some(len.min(wanted))
}
