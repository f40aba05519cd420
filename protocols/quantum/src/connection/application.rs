//! What the application asks of a connection.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Connection, Ending,
    pending::{Flag, GoAway},
};
use crate::{
    config::Transport,
    event::Event,
    frame::{Delivery, Direction, REASON_BYTES_MAX, StreamId},
    lane::{DatagramError, LaneEvent, Limits, MessageError, PeerLimits, ReadError, Received, WriteError},
    parameters::Parameters,
};

impl Connection {
    /// Opens a stream; `None` while the peer allows no more: [`Event::StreamsAvailable`] will tell. And none after
    /// [`Event::GoAway`].
    pub fn open(&mut self, direction: Direction) -> Option<StreamId> {
        if self.told_to_go.is_some() {
            return None;
        }
        self.lanes.open(direction)
    }

    /// Copies as many bytes as there is room for, and says how many; [`Event::Writable`] tells when there is more.
    ///
    /// # Errors
    /// When the stream does not take bytes any more.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.lanes.write(id, data)
    }

    /// The same without a copy.
    ///
    /// # Errors
    /// When the stream does not take bytes any more.
    pub fn write_bytes(&mut self, id: StreamId, data: Bytes) -> Result<usize, WriteError> {
        self.lanes.write_bytes(id, data)
    }

    /// Ends a stream behind what was written.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        self.lanes.finish(id)
    }

    /// Gives a stream up: what was not received yet may never be.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn reset(&mut self, id: StreamId, code: u64) -> Result<(), WriteError> {
        self.lanes.reset(id, code)
    }

    /// Wants no more bytes of a stream.
    ///
    /// # Errors
    /// When there will be none anyway.
    pub fn stop(&mut self, id: StreamId, code: u64) -> Result<(), ReadError> {
        self.lanes.stop(id, code)
    }

    /// Who goes first, from 0 to 7; a new stream has 4.
    ///
    /// # Errors
    /// When the stream does not send.
    pub fn set_priority(&mut self, id: StreamId, priority: u8) -> Result<(), WriteError> {
        self.lanes.set_priority(id, priority)
    }

    /// The next bytes of a stream: empty when there are none now, or at its end, which [`Connection::is_finished`] tells.
    ///
    /// # Errors
    /// When the stream was reset or never was.
    pub fn chunk(&self, id: StreamId) -> Result<&[u8], ReadError> {
        self.lanes.chunk(id)
    }

    /// Goes on behind `len` bytes of [`Connection::chunk`], and lets the peer send more.
    pub fn consume(&mut self, id: StreamId, len: usize) {
        self.lanes.consume(id, len);
    }

    /// Whether all bytes of a stream were read up to its end.
    #[must_use]
    pub fn is_finished(&self, id: StreamId) -> bool {
        self.lanes.is_finished(id)
    }

    /// Queues a message and says its number in the channel. `priority` is from 0, served first, to 7. After `deadline` it
    /// is not sent any more.
    ///
    /// # Errors
    /// When it is too large, or too much is under way: [`Event::MessagesWritable`] tells when to go on.
    pub fn send_message(
        &mut self,
        now: Instant,
        channel: u64,
        delivery: Delivery,
        priority: u8,
        deadline: Option<Duration>,
        bytes: Bytes,
    ) -> Result<u64, MessageError> {
        self.lanes.send_message(now, channel, delivery, priority, deadline, bytes)
    }

    /// The next message, of whatever channel. One of up to 2 KiB lies in a buffer of 8 KiB that it shares with others:
    /// who keeps it for long keeps all of that, and better copies it (`Bytes::copy_from_slice`). One that is let go of
    /// soon costs no allocation.
    pub fn recv_message(&mut self) -> Option<Received> {
        self.lanes.recv_message()
    }

    /// Queues a datagram, which is sent once; when too many wait, the oldest give way.
    ///
    /// # Errors
    /// When it does not fit in a packet, or the peer takes none.
    pub fn send_datagram(&mut self, bytes: Bytes) -> Result<(), DatagramError> {
        self.lanes.send_datagram(bytes)
    }

    /// The next datagram. It lies where a small message does: see [`Connection::recv_message`].
    pub fn recv_datagram(&mut self) -> Option<Bytes> {
        self.lanes.recv_datagram()
    }

    /// Bytes that wait for their first transmission.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.lanes.queued_bytes()
    }

    /// Tells the peer that no new work is taken: streams that it opens from now on will not be looked at.
    pub fn goaway(&mut self, code: u64, reason: &[u8]) {
        if self.pending.goaway == Flag::No {
            self.pending.goaway = Flag::Due;
            let last_stream = self.next_peer_stream;
            let reason = reason[..reason.len().min(REASON_BYTES_MAX)].into();
            self.pending.goaway_frame = Some(GoAway { last_stream, code, reason });
        }
    }

    /// Sends something that the peer must acknowledge.
    pub fn ping(&mut self) {
        self.pending.ping = true;
    }

    /// Changes the keys, as soon as the protocol allows.
    pub fn update_keys(&mut self) {
        self.crypto.want_update();
    }

    /// Goes on under another of the peer's ids, so that an observer of a new address cannot link the two. Whether there
    /// was one to change to.
    pub fn change_id(&mut self) -> bool {
        let changed = self.remote_ids.switch(self.remote(), true);
        self.remote_ids.settle();
        self.watch_token();
        changed
    }

    /// The qlog records since this was last asked ([`Transport::qlog`]), and how many did not fit in between.
    pub fn take_qlog(&mut self) -> Option<(Vec<u8>, u64)> {
        self.qlog.as_mut().map(|qlog| qlog.take())
    }

    pub(crate) fn take_address_token(&mut self) -> Option<Box<[u8]>> {
        self.address_token.take()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        // Nothing is told after the end: what happened before it was collected then.
        if self.events.is_empty() && matches!(self.ending, Ending::No) {
            self.collect_events();
        }
        self.events.pop_front()
    }

    pub(super) fn collect_events(&mut self) {
        while let Some(event) = self.lanes.poll_event() {
            self.events.push_back(match event {
                LaneEvent::Opened(id) => {
                    self.next_peer_stream = self.next_peer_stream.max(id.0 + 4);
                    Event::Opened(id)
                }
                LaneEvent::Readable(id) => Event::Readable(id),
                LaneEvent::Writable(id) => Event::Writable(id),
                LaneEvent::Finished(id) => Event::Finished(id),
                LaneEvent::Stopped { id, code } => Event::Stopped { id, code },
                LaneEvent::Reset { id, code } => Event::Reset { id, code },
                LaneEvent::StreamsAvailable(direction) => Event::StreamsAvailable(direction),
                LaneEvent::Message => Event::Message,
                LaneEvent::MessagesWritable => Event::MessagesWritable,
                LaneEvent::Datagram => Event::Datagram,
            });
        }
    }
}

/// What the peer may send.
pub(super) fn limits(transport: &Transport) -> Limits {
    Limits {
        data_max: transport.data_max,
        data_window_max: transport.data_window_max,
        stream_data_max: transport.stream_data_max,
        stream_window_max: transport.stream_window_max,
        streams_bidirectional_max: transport.streams_bidirectional_max,
        streams_unidirectional_max: transport.streams_unidirectional_max,
        datagram_max: transport.datagram_bytes_max as u64,
        message_max: transport.message_max,
        message_bytes_max: transport.message_bytes_max,
        send_bytes_max: transport.send_bytes_max,
        datagram_send_bytes_max: transport.datagram_bytes_max as u64,
        datagram_receive_bytes_max: transport.datagram_bytes_max as u64,
    }
}

/// What we may send.
pub(super) fn peer_limits(peer: &Parameters) -> PeerLimits {
    PeerLimits {
        data_max: peer.data_max,
        stream_data_max: peer.stream_data_max,
        streams_bidirectional_max: peer.streams_bidirectional_max,
        streams_unidirectional_max: peer.streams_unidirectional_max,
        message_max: peer.message_max,
        message_bytes_max: peer.message_bytes_max,
        datagram_max: peer.datagram_max,
    }
}
