//! The receiving side of all channels: puts fragments together, drops what came twice, and delivers in order.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{CHANNELS_MAX, NUMBERS_MAX, cost};
use crate::{
    error::{Checked, Code, TransportError, check_pieces},
    frame::{Delivery, Message},
    lane::{Received, pool::Pool},
    range::RangeSet,
};

/// Pieces of a message that is not whole: a floor, and one more for so many of its bytes.
const PIECES_MIN: usize = 64;
const PIECE_BYTES: u64 = 256;

const CHANNELS: TransportError = TransportError::new(Code::Message, "too many channels");
const TOO_LONG: TransportError = TransportError::new(Code::Message, "a message longer than allowed");
const NUMBERS: TransportError = TransportError::new(Code::Message, "too many unresolved messages");
const BYTES: TransportError = TransportError::new(Code::Message, "too many unresolved bytes of messages");
const DELIVERY: TransportError = TransportError::new(Code::Message, "a channel with two deliveries");
const TOTAL: TransportError = TransportError::new(Code::Message, "fragments of different messages");
const PIECES: TransportError = TransportError::new(Code::Message, "a message in too many pieces");

/// A message that is not whole.
#[derive(Debug)]
struct Partial {
    /// As long as the furthest piece reaches.
    bytes: Vec<u8>,
    total: u64,
    pieces: RangeSet,
}

impl Partial {
    fn new(total: u64) -> Self {
        Self { bytes: Vec::with_capacity(total as usize), total, pieces: RangeSet::new() }
    }

    /// Takes a piece: of what came before, nothing is replaced.
    fn put(&mut self, offset: u64, data: &[u8]) -> Checked<()> {
        let place = offset..offset + data.len() as u64;
        if self.bytes.len() as u64 == offset {
            self.bytes.extend_from_slice(data);
        } else {
            self.put_between(offset, data);
        }
        self.pieces.insert(place);
        check_pieces(&self.pieces, PIECES_MIN + (self.total / PIECE_BYTES) as usize, PIECES)
    }

    fn put_between(&mut self, offset: u64, data: &[u8]) {
        let end = offset as usize + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let mut at = offset;
        let mut put = |from: u64, to: u64| {
            if from < to {
                let piece = &data[(from - offset) as usize..(to - offset) as usize];
                self.bytes[from as usize..to as usize].copy_from_slice(piece);
            }
        };
        for piece in self.pieces.overlapping(offset..end as u64) {
            put(at, piece.start);
            at = at.max(piece.end);
        }
        put(at, end as u64);
    }

    fn is_whole(&self) -> bool {
        self.pieces.first() == Some(0..self.total)
    }
}

/// The receiving side of a channel.
#[derive(Default, Debug)]
struct Channel {
    /// Not known while only floors came.
    delivery: Option<Delivery>,
    /// All messages below were delivered, or never will be.
    floor: u64,
    /// Whole ones above.
    whole: RangeSet,
    partial: BTreeMap<u64, Partial>,
    /// Whole ones of an `Ordered` channel that wait for those before them.
    waiting: BTreeMap<u64, Bytes>,
    /// Where in all that was ever delivered the last one of a `Newest` channel stands.
    newest: Option<u64>,
}

impl Channel {
    fn is_known(&self, number: u64) -> bool {
        number < self.floor || self.whole.contains(number)
    }
}

/// All channels that anything was ever received on.
#[derive(Default, Debug)]
pub(in crate::lane) struct Receiver {
    channels: BTreeMap<u64, Box<Channel>>,
    /// What the application has not taken.
    ready: VecDeque<Received>,
    /// How many it took.
    taken: u64,
    ready_cost: u64,
    /// Cost of messages that are not whole, and of whole ones that wait for those before them. The peer counts the same
    /// ones, and some more.
    unresolved_cost: u64,
}

impl Receiver {
    /// Whether there is room for a message. What the application has not taken is not the peer's fault, so that it
    /// cannot be an error; but neither may such a packet be acknowledged.
    pub(in crate::lane) fn may_admit(&self, frame: &Message<'_>, bytes_max: u64) -> bool {
        self.ready.is_empty()
            || self.ready_cost + cost(frame.total) <= bytes_max
            || self.channels.get(&frame.channel).is_some_and(|channel| channel.is_known(frame.number))
    }

    /// Takes a message or a piece of one; whether there is more for the application.
    pub(in crate::lane) fn on_message(
        &mut self,
        frame: &Message<'_>,
        message_max: u64,
        bytes_max: u64,
        pool: &mut Pool,
    ) -> Checked<bool> {
        if frame.total > message_max {
            return Err(TOO_LONG);
        }
        self.open(frame.channel)?;
        let Some(channel) = self.channels.get_mut(&frame.channel) else {
            return Ok(false);
        };
        if *channel.delivery.get_or_insert(frame.delivery) != frame.delivery {
            return Err(DELIVERY);
        }
        if channel.is_known(frame.number) {
            return Ok(false);
        }
        //= SPEC.md#13
        //# On a channel at most 1,024 numbers from the smallest unresolved one on may be used; at most 64 channels
        if frame.number - channel.floor >= NUMBERS_MAX {
            return Err(NUMBERS);
        }
        let Some(bytes) = collect(channel, frame, bytes_max, &mut self.unresolved_cost, pool)? else {
            return Ok(false);
        };
        let before = self.delivered();
        self.deliver(frame.channel, frame.number, bytes);
        Ok(self.delivered() > before)
    }

    fn open(&mut self, channel: u64) -> Checked<()> {
        if !self.channels.contains_key(&channel) {
            if self.channels.len() >= CHANNELS_MAX {
                return Err(CHANNELS);
            }
            self.channels.insert(channel, Box::default());
        }
        Ok(())
    }

    fn delivered(&self) -> u64 {
        self.taken + self.ready.len() as u64
    }

    /// A message is whole.
    fn deliver(&mut self, id: u64, number: u64, bytes: Bytes) {
        let delivered = self.delivered();
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        channel.whole.insert_one(number);
        match channel.delivery {
            Some(Delivery::Ordered) => {
                self.unresolved_cost += cost(bytes.len() as u64);
                channel.waiting.insert(number, bytes);
                return self.raise(id, 0);
            }
            Some(Delivery::Newest) => {
                let slot = channel.newest.and_then(|slot| slot.checked_sub(self.taken));
                if let Some(older) = slot.and_then(|slot| self.ready.get_mut(slot as usize)) {
                    // The application is slow: it gets the newer one in the place of the older.
                    self.ready_cost = self.ready_cost + cost(bytes.len() as u64) - cost(older.bytes.len() as u64);
                    (older.number, older.bytes) = (number, bytes);
                } else {
                    channel.newest = Some(delivered);
                    self.hand_over(Received { channel: id, number, bytes });
                }
                return self.raise(id, number + 1);
            }
            Some(Delivery::Independent) | None => {}
        }
        self.hand_over(Received { channel: id, number, bytes });
        self.raise(id, 0);
    }

    fn hand_over(&mut self, message: Received) {
        self.ready_cost += cost(message.bytes.len() as u64);
        self.ready.push_back(message);
    }

    /// Raises the floor of a channel to `floor`, if that is higher, and on over all that is whole from there.
    fn raise(&mut self, id: u64, floor: u64) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if floor > channel.floor {
            channel.floor = floor;
            channel.whole.remove_below(floor);
        }
        if let Some(first) = channel.whole.first().filter(|first| first.start == channel.floor) {
            channel.floor = first.end;
            channel.whole.pop_first();
        }
        let floor = channel.floor;
        while let Some(partial) = channel.partial.first_entry().filter(|partial| *partial.key() < floor) {
            self.unresolved_cost -= cost(partial.remove().total);
        }
        while let Some(waiting) = channel.waiting.first_entry().filter(|waiting| *waiting.key() < floor) {
            let (number, bytes) = waiting.remove_entry();
            let cost = cost(bytes.len() as u64);
            self.unresolved_cost -= cost;
            self.ready_cost += cost;
            self.ready.push_back(Received { channel: id, number, bytes });
        }
    }

    /// Messages below a floor that have not arrived never will; whether there is more for the application.
    pub(in crate::lane) fn on_floor(&mut self, channel: u64, floor: u64) -> Checked<bool> {
        self.open(channel)?;
        let before = self.delivered();
        self.raise(channel, floor);
        Ok(self.delivered() > before)
    }

    /// The next message for the application.
    pub(in crate::lane) fn recv(&mut self) -> Option<Received> {
        let message = self.ready.pop_front()?;
        self.taken += 1;
        self.ready_cost -= cost(message.bytes.len() as u64);
        Some(message)
    }

    /// Gives idle memory back.
    pub(in crate::lane) fn trim(&mut self) {
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        for channel in self.channels.values_mut().filter(|channel| channel.whole.is_empty()) {
            channel.whole = RangeSet::new();
        }
    }

    /// What is held, in bytes: whole messages, and what of others came.
    pub(in crate::lane) fn held(&self) -> u64 {
        self.ready_cost + self.unresolved_cost
    }
}

/// Takes a piece of a message that is not known yet; the message, when that makes it whole.
fn collect(
    channel: &mut Channel,
    frame: &Message<'_>,
    bytes_max: u64,
    unresolved_cost: &mut u64,
    pool: &mut Pool,
) -> Checked<Option<Bytes>> {
    let (number, cost) = (frame.number, cost(frame.total));
    if !channel.partial.contains_key(&number) {
        let is_whole = frame.data.len() as u64 == frame.total;
        let is_early = channel.delivery == Some(Delivery::Ordered) && number != channel.floor;
        if (is_early || !is_whole) && *unresolved_cost + cost > bytes_max {
            return Err(BYTES);
        }
        if is_whole {
            // One that waits for others may wait for long: it must not hold more than itself.
            return Ok(Some(if is_early { Bytes::copy_from_slice(frame.data) } else { pool.copy(frame.data) }));
        }
        *unresolved_cost += cost;
    }
    let partial = channel.partial.entry(number).or_insert_with(|| Partial::new(frame.total));
    if partial.total != frame.total {
        return Err(TOTAL);
    }
    partial.put(frame.offset, frame.data)?;
    if !partial.is_whole() {
        return Ok(None);
    }
    *unresolved_cost -= cost;
    Ok(channel.partial.remove(&number).map(|partial| partial.bytes.into()))
}
