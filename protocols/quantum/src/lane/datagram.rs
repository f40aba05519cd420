//! Unreliable datagrams: two queues, bounded in bytes; the oldest datagram makes room for the newest.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    error::{Checked, Code, TransportError},
    frame::{Datagram, Frame},
    item::Item,
    lane::{limits::DatagramError, payload::Payload, pool::Pool, streams::Turn},
    varint,
};

/// What a queued datagram costs beside its bytes, so that a queue of empty ones is bounded too.
const OVERHEAD: u64 = 64;

const UNWANTED: TransportError = TransportError::new(Code::ProtocolViolation, "a datagram longer than allowed");

/// A queue of datagrams.
#[derive(Default, Debug)]
struct Queue {
    datagrams: VecDeque<Bytes>,
    cost: u64,
    dropped: u64,
}

impl Queue {
    fn push(&mut self, bytes: Bytes, cost_max: u64) {
        self.cost += bytes.len() as u64 + OVERHEAD;
        self.datagrams.push_back(bytes);
        while self.cost > cost_max && self.pop().is_some() {
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let bytes = self.datagrams.pop_front()?;
        self.cost -= bytes.len() as u64 + OVERHEAD;
        Some(bytes)
    }
}

/// Both queues.
#[derive(Debug)]
pub(super) struct Datagrams {
    outgoing: Option<Box<Queue>>,
    incoming: Option<Box<Queue>>,
    /// Bytes of frames that an otherwise empty packet holds.
    packet_room: usize,
}

impl Datagrams {
    pub(super) fn new() -> Self {
        // Until the path's MTU is known: the smallest packet that QUIC allows, less what surrounds the frames.
        Self { outgoing: None, incoming: None, packet_room: 1100 }
    }

    pub(super) fn set_packet_room(&mut self, bytes: usize) {
        self.packet_room = bytes;
    }

    /// Bytes of frames that an otherwise empty packet holds.
    pub(super) fn packet_room(&self) -> usize {
        self.packet_room
    }

    /// Queues a datagram; whether the queue was empty.
    pub(super) fn send(&mut self, bytes: Bytes, peer_max: u64, cost_max: u64) -> Result<bool, DatagramError> {
        let size = size(bytes.len());
        if size as u64 > peer_max {
            return Err(DatagramError::TooLong);
        }
        if size > self.packet_room || bytes.len() as u64 + OVERHEAD > cost_max {
            return Err(DatagramError::Path);
        }
        let outgoing = self.outgoing.get_or_insert_default();
        let was_empty = outgoing.datagrams.is_empty();
        outgoing.push(bytes, cost_max);
        Ok(was_empty)
    }

    /// The peer takes no longer ones than this from now on: those that wait are dropped.
    pub(super) fn drop_longer(&mut self, peer_max: u64) {
        let Some(outgoing) = &mut self.outgoing else { return };
        for _ in 0..outgoing.datagrams.len() {
            let Some(next) = outgoing.pop() else { return };
            if size(next.len()) as u64 <= peer_max {
                outgoing.push(next, u64::MAX);
            } else {
                outgoing.dropped += 1;
            }
        }
    }

    /// Gives the datagrams their turn: one DATAGRAM frame. Those that outgrew the path are dropped.
    pub(super) fn write(&mut self, payload: &mut Payload<'_>) -> Turn {
        let Some(outgoing) = &mut self.outgoing else {
            return Turn::Done;
        };
        while let Some(next) = outgoing.datagrams.front() {
            let size = size(next.len());
            if size > self.packet_room {
                outgoing.pop();
                outgoing.dropped += 1;
            } else if size > payload.room() {
                return Turn::NoRoom;
            } else {
                payload.put(Frame::Datagram(Datagram { has_len: true, data: next }), Item::Datagram);
                outgoing.pop();
                break;
            }
        }
        if outgoing.datagrams.is_empty() { Turn::Done } else { Turn::More }
    }

    /// Takes a datagram of the peer.
    pub(super) fn on_datagram(
        &mut self,
        frame: &Datagram<'_>,
        local_max: u64,
        cost_max: u64,
        pool: &mut Pool,
    ) -> Checked<()> {
        if size(frame.data.len()) as u64 > local_max {
            return Err(UNWANTED);
        }
        self.incoming.get_or_insert_default().push(pool.copy(frame.data), cost_max);
        Ok(())
    }

    pub(super) fn recv(&mut self) -> Option<Bytes> {
        self.incoming.as_mut()?.pop()
    }

    /// Datagrams dropped before they were sent, and before they were taken.
    pub(super) fn dropped(&self) -> (u64, u64) {
        let dropped = |queue: &Option<Box<Queue>>| queue.as_ref().map_or(0, |queue| queue.dropped);
        (dropped(&self.outgoing), dropped(&self.incoming))
    }

    /// Bytes that wait for the application, with their bookkeeping.
    pub(super) fn held_bytes(&self) -> u64 {
        self.incoming.as_ref().map_or(0, |queue| queue.cost)
    }

    /// Bytes that wait for transmission.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.outgoing.as_ref().map_or(0, |queue| queue.cost - OVERHEAD * queue.datagrams.len() as u64)
    }

    /// Gives idle memory back.
    pub(super) fn trim(&mut self) {
        for queue in [&mut self.outgoing, &mut self.incoming].into_iter().flatten() {
            if queue.datagrams.is_empty() {
                queue.datagrams = VecDeque::new();
            }
        }
    }
}

/// Bytes of the frame: what the limit of RFC 9221 counts.
fn size(len: usize) -> usize {
    1 + varint::len(len as u64) + len
}
