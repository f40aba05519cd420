//! What a connection carries: streams, messages and datagrams, their flow control and who goes first.

mod datagram;
mod events;
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod message;
mod payload;
mod pool;
mod recv;
mod ring;
mod schedule;
mod send;
mod streams;
#[cfg(test)]
mod tests;
mod window;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::limits::{DatagramError, MessageError, ReadError, WriteError};
use self::{
    datagram::Datagrams,
    limits::{BUFFER_IDLE, PRIORITY_DATAGRAM},
    message::{Messages, Wish},
    payload::Payload,
    pool::Pool,
    schedule::{Lane, Slot},
    send::Class,
    streams::{Agenda, Streams, Turn},
};
pub(crate) use self::{
    limits::{LaneEvent, Limits, PeerLimits},
    message::{CHANNELS_MAX, COST_MIN, NUMBERS_MAX},
    recv::{PIECE_BYTES, PIECES_MIN},
};
use crate::{
    error::{Checked, Code, TransportError},
    frame::{Datagram, Delivery, Direction, Message, Side, Stream, StreamId},
    item::{Item, Items},
};

const SHRUNK: TransportError = TransportError::new(Code::ProtocolViolation, "limits below those of early data");

const UNFIT: TransportError = TransportError::new(Code::Internal, "early data was refused, and is too much for now");

/// A message as it is handed to the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The channel that counts it.
    pub channel: u64,
    /// Its number there.
    pub number: u64,
    /// The message.
    pub bytes: Bytes,
}

/// Counts of what was given up; they only rise.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Drops {
    /// Datagrams that made room for newer ones, or outgrew the path, before they were sent.
    pub(crate) datagrams_sent: u64,
    /// Received datagrams that made room for newer ones before the application took them.
    pub(crate) datagrams_received: u64,
    /// Messages whose deadline passed.
    pub(crate) messages_expired: u64,
    /// Messages of a `Newest` channel that a newer one replaced before they arrived.
    pub(crate) messages_superseded: u64,
}

/// More stream bytes than that wait only when the network is what limits them: interactive traffic leaves less waiting.
const BULK_BYTES: u64 = 32 * 1024;

/// A frame of less is not worth a turn.
const FRAME_BYTES_MIN: usize = 4;

/// All lanes of one connection.
#[derive(Debug)]
pub(crate) struct Lanes {
    peer: PeerLimits,
    streams: Streams,
    /// Made when the first message is sent or received.
    messages: Option<Box<Messages>>,
    datagrams: Datagrams,
    /// Where received messages and datagrams lie.
    pool: Pool,
    agenda: Agenda,
    /// When idle buffers are given back, and whether any may have come into use since that was decided.
    trim_at: Option<Instant>,
    is_active: bool,
}

impl Lanes {
    /// Nothing open, nothing on the heap.
    pub(crate) fn new(side: Side, local: &Limits) -> Self {
        Self {
            peer: PeerLimits::default(),
            streams: Streams::new(side, local),
            messages: None,
            datagrams: Datagrams::new(),
            pool: Pool::default(),
            agenda: Agenda::default(),
            trim_at: None,
            is_active: false,
        }
    }

    /// Takes the peer's limits. A second time, after those that early data relied on, they may only have grown (RFC
    /// 9000, section 7.4.1).
    pub(crate) fn set_peer(&mut self, peer: &PeerLimits) -> Checked<()> {
        if !peer.covers(&self.peer) {
            return Err(SHRUNK);
        }
        self.peer = *peer;
        self.streams.set_peer(&mut self.agenda, peer);
        if let Some(messages) = &mut self.messages {
            messages.sender.wake(&mut self.agenda);
        }
        Ok(())
    }

    /// Takes the limits of a peer that refused early data: they hold instead of those that it relied on, and may be
    /// smaller (RFC 9001, section 4.6.2), as long as they let pass what is to be sent once more.
    pub(crate) fn replace_peer(&mut self, peer: &PeerLimits) -> Checked<()> {
        if !self.streams.fit(peer) || self.messages.as_ref().is_some_and(|messages| !messages.sender.fits(peer)) {
            return Err(UNFIT);
        }
        self.streams.forget_peer();
        self.datagrams.drop_longer(peer.datagram_max);
        self.peer = PeerLimits::default();
        self.set_peer(peer)
    }

    /// How many bytes of frames an otherwise empty packet holds on this path: no longer datagram is taken.
    pub(crate) fn set_packet_room(&mut self, bytes: usize) {
        self.datagrams.set_packet_room(bytes);
    }

    // What arrives. An error ends the connection.

    pub(crate) fn on_stream(&mut self, frame: &Stream<'_>) -> Checked<()> {
        self.is_active = true;
        self.streams.on_stream(&mut self.agenda, frame)
    }

    pub(crate) fn on_reset_stream(&mut self, id: StreamId, code: u64, final_size: u64) -> Checked<()> {
        self.is_active = true;
        self.streams.on_reset_stream(&mut self.agenda, id, code, final_size)
    }

    pub(crate) fn on_stop_sending(&mut self, id: StreamId, code: u64) -> Checked<()> {
        self.is_active = true;
        self.streams.on_stop_sending(&mut self.agenda, id, code)
    }

    pub(crate) fn on_max_data(&mut self, limit: u64) {
        self.streams.on_max_data(&mut self.agenda, limit);
    }

    pub(crate) fn on_max_stream_data(&mut self, id: StreamId, limit: u64) -> Checked<()> {
        self.streams.on_max_stream_data(&mut self.agenda, id, limit)
    }

    pub(crate) fn on_max_streams(&mut self, direction: Direction, limit: u64) {
        self.streams.on_max_streams(&mut self.agenda, direction, limit);
    }

    pub(crate) fn on_data_blocked(&mut self, limit: u64) {
        self.streams.on_data_blocked(limit);
    }

    pub(crate) fn on_stream_data_blocked(&mut self, id: StreamId, limit: u64) -> Checked<()> {
        self.streams.on_stream_data_blocked(id, limit)
    }

    pub(crate) fn on_streams_blocked(&mut self, direction: Direction, limit: u64) {
        self.streams.on_streams_blocked(direction, limit);
    }

    /// Whether there is room for a message. Ask before the packet is acknowledged: one that is refused has to look lost
    /// to the peer, and comes again.
    pub(crate) fn may_admit(&self, frame: &Message<'_>) -> bool {
        let bytes_max = self.streams.limits.message_bytes_max;
        self.messages.as_ref().is_none_or(|messages| messages.receiver.may_admit(frame, bytes_max))
    }

    /// Takes a message that was admitted.
    pub(crate) fn on_message(&mut self, frame: &Message<'_>) -> Checked<()> {
        let Limits { message_max, message_bytes_max, .. } = self.streams.limits;
        self.is_active = true;
        let receiver = &mut self.messages.get_or_insert_default().receiver;
        if receiver.on_message(frame, message_max, message_bytes_max, &mut self.pool)? {
            self.agenda.events.push(LaneEvent::Message);
        }
        Ok(())
    }

    pub(crate) fn on_message_floor(&mut self, channel: u64, floor: u64) -> Checked<()> {
        if self.messages.get_or_insert_default().receiver.on_floor(channel, floor)? {
            self.agenda.events.push(LaneEvent::Message);
        }
        Ok(())
    }

    pub(crate) fn on_datagram(&mut self, frame: &Datagram<'_>) -> Checked<()> {
        let Limits { datagram_max, datagram_receive_bytes_max, .. } = self.streams.limits;
        self.is_active = true;
        self.datagrams.on_datagram(frame, datagram_max, datagram_receive_bytes_max, &mut self.pool)?;
        self.agenda.events.push(LaneEvent::Datagram);
        Ok(())
    }

    // What leaves.

    /// Whether `write_control` may have something to write.
    pub(crate) fn has_control(&self) -> bool {
        self.streams.has_control() || self.messages.as_ref().is_some_and(|messages| messages.sender.has_control())
    }

    /// Appends frames of flow control and stream control, at most `room` bytes; whether there was one. `rtt` is the
    /// smoothed round trip: a window that is used up within two of them is doubled.
    pub(crate) fn write_control(
        &mut self,
        now: Instant,
        rtt: Duration,
        room: usize,
        out: &mut Vec<u8>,
        items: &mut Items,
    ) -> bool {
        let mut payload = Payload::new(room, out, items);
        self.streams.write_control(now, rtt, &mut payload);
        if let Some(messages) = &mut self.messages {
            messages.sender.write_control(&mut payload);
        }
        !payload.is_empty()
    }

    /// Whether `write_data` has something to write, given enough room. Drops what has expired: ask `has_control` after.
    pub(crate) fn has_data(&mut self, now: Instant) -> bool {
        self.expire(now);
        if self.is_active && self.trim_at.is_none() {
            self.is_active = false;
            self.trim_at = Some(now + BUFFER_IDLE);
        }
        !self.agenda.schedule.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        if let Some(messages) = &mut self.messages {
            messages.sender.expire(&mut self.agenda, now);
        }
    }

    /// Appends STREAM, MESSAGE and DATAGRAM frames by priority, at most `room` bytes; whether there was one. A STREAM
    /// frame that fills the room to the last byte has no length: nothing may follow it in the packet.
    pub(crate) fn write_data(&mut self, now: Instant, room: usize, out: &mut Vec<u8>, items: &mut Items) -> bool {
        self.expire(now);
        let mut payload = Payload::new(room, out, items);
        let mut slot = None;
        while payload.room() >= FRAME_BYTES_MIN
            && let Some(next) = self.agenda.schedule.next(slot)
        {
            slot = Some(next);
            self.write_slot(next, &mut payload);
        }
        !payload.is_empty()
    }

    /// Gives the lanes of one queue their turns until the packet is full or they have nothing that fits.
    fn write_slot(&mut self, slot: Slot, payload: &mut Payload<'_>) {
        let mut at = 0;
        while payload.room() >= FRAME_BYTES_MIN
            && let Some(lane) = self.agenda.schedule.get(slot, at)
        {
            let had_credit = self.streams.has_credit();
            match self.write_lane(lane, slot.class(), payload) {
                Turn::More => self.agenda.schedule.rotate(slot, at),
                Turn::Done => self.agenda.schedule.remove_at(slot, at),
                Turn::NoRoom => at += 1,
            }
            if had_credit && !self.streams.has_credit() {
                self.streams.park(&mut self.agenda);
                at = 0;
            }
        }
    }

    fn write_lane(&mut self, lane: Lane, class: Class, payload: &mut Payload<'_>) -> Turn {
        match lane {
            Lane::Stream(id) => self.streams.write_data(&mut self.agenda, id, class, payload),
            Lane::Channel(id) => {
                let Some(messages) = &mut self.messages else {
                    return Turn::Done;
                };
                // A message that fits into a packet of its own is not spread over two, unless this one is as good as
                // empty already and the next may not be emptier.
                let packet_room = self.datagrams.packet_room();
                let is_empty = payload.is_empty() && payload.room() >= packet_room / 4 * 3;
                let may_cut = |whole: usize| whole > packet_room || is_empty;
                messages.sender.write(&mut self.agenda, id, class, may_cut, payload)
            }
            Lane::Datagrams => self.datagrams.write(payload),
        }
    }

    /// The packet that carried `item` arrived, or FEC recovered it.
    pub(crate) fn on_acked(&mut self, item: &Item) {
        match item {
            Item::Message { .. } | Item::MessageFloor { .. } => {
                if let Some(messages) = &mut self.messages {
                    messages.sender.on_acked(&mut self.agenda, item);
                }
            }
            _ => self.streams.on_acked(&mut self.agenda, item),
        }
    }

    /// The packet that carried `item` is lost: what still matters of it is sent again.
    pub(crate) fn on_lost(&mut self, now: Instant, item: &Item) {
        match item {
            Item::Message { .. } | Item::MessageFloor { .. } => {
                if let Some(messages) = &mut self.messages {
                    messages.sender.on_lost(&mut self.agenda, now, item);
                }
            }
            _ => self.streams.on_lost(&mut self.agenda, item),
        }
    }

    /// When `handle_timeout` wants to be called: messages expire, idle buffers are given back.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let expiry = self.messages.as_ref().and_then(|messages| messages.sender.deadline());
        [expiry, self.trim_at].into_iter().flatten().min()
    }

    /// Time has passed; whether nothing at all has happened for long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        self.expire(now);
        if self.trim_at.is_none_or(|at| at > now) {
            return false;
        }
        let is_active = std::mem::take(&mut self.is_active);
        let is_again = self.trim(is_active) || is_active;
        self.trim_at = is_again.then(|| now + BUFFER_IDLE);
        !is_active
    }

    /// Gives idle memory back; whether some was kept because it was used since the last time. What all lanes share, and
    /// the next packet wants again, goes only when nothing at all happened.
    fn trim(&mut self, is_active: bool) -> bool {
        if !is_active {
            self.agenda.schedule.trim();
            self.agenda.events.trim();
            self.datagrams.trim();
            self.pool.trim();
            if let Some(messages) = &mut self.messages {
                messages.trim();
            }
        }
        self.streams.trim(is_active)
    }

    /// Whether more stream data waits than interactive traffic ever leaves waiting.
    pub(crate) fn send_is_bulk(&self) -> bool {
        self.streams.unsent() > BULK_BYTES
    }

    /// Bytes that wait for their first transmission.
    pub(crate) fn queued_bytes(&self) -> u64 {
        let messages = self.messages.as_ref().map_or(0, |messages| messages.sender.unsent());
        self.streams.unsent() + messages + self.datagrams.queued_bytes()
    }

    /// What was given up so far.
    pub(crate) fn drops(&self) -> Drops {
        let (datagrams_sent, datagrams_received) = self.datagrams.dropped();
        let sender = self.messages.as_ref().map(|messages| &messages.sender);
        Drops {
            datagrams_sent,
            datagrams_received,
            messages_expired: sender.map_or(0, |sender| sender.expired),
            messages_superseded: sender.map_or(0, |sender| sender.superseded),
        }
    }

    /// Panics when the books contradict each other, or a limit is exceeded.
    #[cfg(feature = "simulation")]
    pub(crate) fn check(&self) {
        self.streams.check();
    }

    /// Streams open in either direction, by whomever.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes held of what was received: grows with what the peer sends, and is bounded by our limits.
    pub(crate) fn received_bytes(&self) -> u64 {
        let messages = self.messages.as_ref().map_or(0, |messages| messages.receiver.held());
        self.streams.received_heap_bytes() as u64 + messages + self.datagrams.held_bytes()
    }

    // What the application asks for.

    /// Opens a stream; `None` while the peer allows no more: `StreamsAvailable` will tell.
    pub(crate) fn open(&mut self, direction: Direction) -> Option<StreamId> {
        self.streams.open(direction)
    }

    /// Copies as many bytes as there is room for, and says how many. When not all fit, `Writable` will tell.
    pub(crate) fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.is_active = true;
        self.streams.write(&mut self.agenda, id, data)
    }

    /// The same without a copy.
    pub(crate) fn write_bytes(&mut self, id: StreamId, data: Bytes) -> Result<usize, WriteError> {
        self.is_active = true;
        self.streams.write_bytes(&mut self.agenda, id, data)
    }

    /// Ends a stream behind what was written.
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        self.is_active = true;
        self.streams.finish(&mut self.agenda, id)
    }

    /// Gives a stream up: what was not received yet may never be.
    pub(crate) fn reset(&mut self, id: StreamId, code: u64) -> Result<(), WriteError> {
        self.is_active = true;
        self.streams.reset(&mut self.agenda, id, code)
    }

    /// Wants no more bytes of a stream.
    pub(crate) fn stop(&mut self, id: StreamId, code: u64) -> Result<(), ReadError> {
        self.streams.stop(id, code)
    }

    /// From 0, served first, to 7.
    pub(crate) fn set_priority(&mut self, id: StreamId, priority: u8) -> Result<(), WriteError> {
        self.streams.set_priority(&mut self.agenda, id, priority)
    }

    /// The next bytes of a stream: empty when there are none now, or at its end, which `is_finished` tells apart.
    pub(crate) fn chunk(&self, id: StreamId) -> Result<&[u8], ReadError> {
        self.streams.chunk(id)
    }

    /// Goes on behind `len` bytes of `chunk`.
    ///
    /// # Panics
    /// If `chunk` had fewer.
    pub(crate) fn consume(&mut self, id: StreamId, len: usize) {
        self.streams.consume(id, len);
    }

    /// Whether all bytes of a stream were read up to its end. (Also of one that was reset, once `Reset` was polled.)
    pub(crate) fn is_finished(&self, id: StreamId) -> bool {
        self.streams.is_finished(id)
    }

    /// Queues a message and says its number. After `deadline` it is not sent any more.
    pub(crate) fn send_message(
        &mut self,
        now: Instant,
        channel: u64,
        delivery: Delivery,
        priority: u8,
        deadline: Option<Duration>,
        bytes: Bytes,
    ) -> Result<u64, MessageError> {
        self.is_active = true;
        let sender = &mut self.messages.get_or_insert_default().sender;
        sender.send(&mut self.agenda, now, &self.peer, Wish { channel, delivery, priority, deadline }, bytes)
    }

    /// The next message, of whatever channel.
    pub(crate) fn recv_message(&mut self) -> Option<Received> {
        self.messages.as_mut()?.receiver.recv()
    }

    /// Queues a datagram; the oldest ones make room.
    pub(crate) fn send_datagram(&mut self, bytes: Bytes) -> Result<(), DatagramError> {
        self.is_active = true;
        let cost_max = self.streams.limits.datagram_send_bytes_max;
        if self.datagrams.send(bytes, self.peer.datagram_max, cost_max)? {
            self.agenda.schedule.push(Slot::new(PRIORITY_DATAGRAM, Class::Fresh), Lane::Datagrams);
        }
        Ok(())
    }

    /// The next datagram.
    pub(crate) fn recv_datagram(&mut self) -> Option<Bytes> {
        self.datagrams.recv()
    }

    /// What happened.
    pub(crate) fn poll_event(&mut self) -> Option<LaneEvent> {
        if let Some(id) = self.streams.poll_opened() {
            return Some(LaneEvent::Opened(id));
        }
        let event = self.agenda.events.pop()?;
        self.streams.on_told(event);
        Some(event)
    }
}
