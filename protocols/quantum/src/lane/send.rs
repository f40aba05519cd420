//! The sending half of a stream: bytes that wait for their transmission or acknowledgement (RFC 9000, section 3.1).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    frame::{Stream, StreamId},
    item::Item,
    lane::{limits::WriteError, payload::Payload},
    range::RangeSet,
    varint,
};

/// Writes up to this size are copied behind the last one: a chunk of its own would cost more than the bytes.
const COPY_MAX: usize = 128;

/// Up to where copied writes share a chunk. A chunk is freed as a whole, when its last byte is acknowledged.
const SHARED_CHUNK_MAX: usize = 16 * 1024;

/// A frame that has to be cut carries at least so many bytes, or waits for the next packet.
const CUT_MIN: usize = 32;

/// Whether the end of the stream has been said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fin {
    /// The application may write on.
    Open,
    /// It is to be said, for the first time or again.
    Due,
    /// Said and not acknowledged.
    Sent,
    /// Acknowledged.
    Acked,
}

/// Where a half stands. `Ready`, `Send`, `Data Sent` and `Data Recvd` of the RFC follow from the offsets and the FIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Bytes are sent.
    Send,
    /// RESET_STREAM is to arrive; with the code that the peer stopped the stream with, if it did.
    ResetSent { code: u64, stopped: Option<u64> },
}

/// Bytes of one write.
#[derive(Debug)]
enum Chunk {
    Shared(Bytes),
    Own(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Shared(bytes) => bytes,
            Chunk::Own(bytes) => bytes,
        }
    }
}

/// What a frame is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// What was lost.
    Lost,
    /// What was never sent.
    Fresh,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct SendHalf {
    /// What was not acknowledged, each with the offset of its first byte.
    chunks: VecDeque<(u64, Chunk)>,
    /// Index of the chunk that holds the byte at `sent`, or one that ends before it.
    cursor: usize,
    /// All bytes below are acknowledged.
    acked_to: u64,
    /// Acknowledged ones above.
    acked: RangeSet,
    /// Lost ones.
    lost: RangeSet,
    /// All bytes below were sent at least once.
    sent: u64,
    /// All bytes below were written by the application.
    written: u64,
    /// The peer's limit.
    credit: u64,
    state: State,
    fin: Fin,
    /// From 0, served first, to 7.
    pub(super) priority: u8,
    /// Stands in the schedule for lost bytes.
    pub(super) in_lost: bool,
    /// Stands in the schedule for fresh bytes.
    pub(super) in_fresh: bool,
    /// Has fresh bytes, and waits for credit of the connection.
    pub(super) is_parked: bool,
    /// A write was refused because the peer's limit was met.
    pub(super) is_credit_wanted: bool,
    /// A write was refused because too much was buffered.
    pub(super) is_room_wanted: bool,
    /// Something was written since idle memory was given back last.
    is_recent: bool,
}

/// What a frame took from the half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Written {
    /// Bytes that were sent for the first time.
    pub(super) fresh: u64,
}

impl SendHalf {
    pub(super) fn new(credit: u64, priority: u8) -> Self {
        Self {
            chunks: VecDeque::new(),
            cursor: 0,
            acked_to: 0,
            acked: RangeSet::new(),
            lost: RangeSet::new(),
            sent: 0,
            written: 0,
            credit,
            state: State::Send,
            fin: Fin::Open,
            priority,
            in_lost: false,
            in_fresh: false,
            is_parked: false,
            is_credit_wanted: false,
            is_room_wanted: false,
            is_recent: false,
        }
    }

    /// Panics when the offsets contradict each other.
    #[cfg(feature = "simulation")]
    pub(super) fn check_books(&self) {
        assert!(self.acked_to <= self.sent && self.sent <= self.written && self.sent <= self.credit);
        assert!(self.acked.max().max(self.lost.max()).is_none_or(|last| last < self.sent));
    }

    /// Whether the application may write.
    pub(super) fn check_open(&self) -> Result<(), WriteError> {
        match self.state {
            State::ResetSent { stopped: Some(code), .. } => Err(WriteError::Stopped(code)),
            State::Send if self.fin == Fin::Open => Ok(()),
            _ => Err(WriteError::Closed),
        }
    }

    /// Bytes that the peer's limit still allows to be written.
    pub(super) fn room(&self) -> u64 {
        self.credit.saturating_sub(self.written)
    }

    /// Bytes held.
    pub(super) fn buffered(&self) -> u64 {
        self.written - self.acked_to
    }

    /// Bytes never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.written - self.sent
    }

    /// The peer's limit.
    pub(super) fn credit(&self) -> u64 {
        self.credit
    }

    /// Raises the peer's limit; whether it rose.
    pub(super) fn raise_credit(&mut self, credit: u64) -> bool {
        let rises = credit > self.credit;
        self.credit = self.credit.max(credit);
        rises
    }

    /// Whether another limit of the peer lets pass what was written.
    pub(super) fn fits(&self, credit: u64) -> bool {
        self.written <= credit
    }

    /// Forgets the peer's limit: another follows, in which this fits.
    pub(super) fn forget_credit(&mut self) {
        self.credit = self.written;
    }

    /// Queues a copy of bytes that fit the room.
    pub(super) fn push(&mut self, data: &[u8]) {
        let start = self.written;
        self.written += data.len() as u64;
        self.is_recent = true;
        match self.chunks.back_mut() {
            Some((_, Chunk::Own(last))) if last.len() + data.len() <= SHARED_CHUNK_MAX => last.extend_from_slice(data),
            _ => self.chunks.push_back((start, Chunk::Own(data.to_vec()))),
        }
    }

    /// Queues bytes that fit the room.
    pub(super) fn push_bytes(&mut self, data: Bytes) {
        if data.len() <= COPY_MAX {
            return self.push(&data);
        }
        let start = self.written;
        self.written += data.len() as u64;
        self.is_recent = true;
        self.chunks.push_back((start, Chunk::Shared(data)));
    }

    /// Nothing will be written any more.
    pub(super) fn finish(&mut self) {
        self.fin = Fin::Due;
    }

    /// Whether there is something to send of a class.
    pub(super) fn has(&self, class: Class) -> bool {
        match class {
            Class::Lost => !self.lost.is_empty(),
            Class::Fresh => self.sent < self.written || self.fin == Fin::Due,
        }
    }

    /// Appends one frame of a class, of at most `credit` fresh bytes. `None`: not in this room.
    pub(super) fn write_frame(
        &mut self,
        id: StreamId,
        class: Class,
        credit: u64,
        payload: &mut Payload<'_>,
    ) -> Option<Written> {
        let range = match class {
            Class::Lost => self.lost.first()?,
            Class::Fresh => self.sent..self.written.min(self.sent.saturating_add(credit)),
        };
        let available = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let (len, has_len) = fit(id, range.start, available, payload.room())?;
        let end = range.start + len as u64;
        let fin = end == self.written && self.fin != Fin::Open;
        if len == 0 && !fin {
            return None;
        }
        Stream::encode_head(id, range.start, fin, len, has_len, payload.out);
        let written = match class {
            Class::Lost => {
                self.copy(self.chunk_at(range.start), range.start, len, payload.out);
                self.lost.remove(range.start..end);
                Written { fresh: 0 }
            }
            Class::Fresh => {
                self.cursor = self.copy(self.cursor, range.start, len, payload.out);
                self.sent = end;
                Written { fresh: len as u64 }
            }
        };
        if fin && self.fin == Fin::Due {
            self.fin = Fin::Sent;
        }
        payload.note(Item::Stream { id, offset: range.start, len: len as u32, fin });
        Some(written)
    }

    /// Index of the chunk that holds the byte at `offset`.
    fn chunk_at(&self, offset: u64) -> usize {
        self.chunks.partition_point(|(start, _)| *start <= offset).saturating_sub(1)
    }

    /// Copies bytes from chunk `at` on, and returns where it ended.
    fn copy(&self, mut at: usize, mut from: u64, mut len: usize, out: &mut Vec<u8>) -> usize {
        while len > 0 {
            let (start, chunk) = &self.chunks[at];
            let rest = &chunk.bytes()[(from - start).min(chunk.bytes().len() as u64) as usize..];
            let taken = rest.len().min(len);
            out.extend_from_slice(&rest[..taken]);
            from += taken as u64;
            len -= taken;
            if len > 0 {
                at += 1;
            }
        }
        at
    }

    /// Takes an acknowledgement; how many bytes it freed.
    pub(super) fn on_acked(&mut self, offset: u64, len: u32, fin: bool) -> u64 {
        if self.state != State::Send {
            return 0;
        }
        if fin {
            self.fin = Fin::Acked;
        }
        let range = offset.max(self.acked_to)..offset + u64::from(len);
        if range.is_empty() {
            return 0;
        }
        if !self.lost.is_empty() {
            self.lost.remove(range.clone());
        }
        if range.start > self.acked_to {
            self.acked.insert(range);
            return 0;
        }
        let before = self.acked_to;
        self.acked_to = range.end;
        while let Some(first) = self.acked.first().filter(|first| first.start <= self.acked_to) {
            self.acked_to = self.acked_to.max(first.end);
            self.acked.pop_first();
        }
        self.free_chunks();
        self.acked_to - before
    }

    fn free_chunks(&mut self) {
        while let Some((start, chunk)) = self.chunks.front() {
            if start + chunk.bytes().len() as u64 > self.acked_to {
                return;
            }
            self.chunks.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
    }

    /// Takes a loss: what of it was not acknowledged otherwise is to be sent again.
    pub(super) fn on_lost(&mut self, offset: u64, len: u32, fin: bool) {
        if self.state != State::Send {
            return;
        }
        if fin && self.fin == Fin::Sent {
            self.fin = Fin::Due;
        }
        let range = offset.max(self.acked_to)..offset + u64::from(len);
        self.lost.insert_except(range, &self.acked);
    }

    /// Whether the peer has everything, or knows that it gets no more.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Send && self.fin == Fin::Acked && self.acked_to == self.written
    }

    /// Gives up: the bytes that will not be sent are forgotten. False when that was done before.
    pub(super) fn reset(&mut self, code: u64, stopped: Option<u64>) -> bool {
        if self.state != State::Send {
            return false;
        }
        self.state = State::ResetSent { code, stopped };
        self.chunks = VecDeque::new();
        (self.acked, self.lost) = (RangeSet::new(), RangeSet::new());
        self.written = self.sent;
        self.acked_to = self.sent;
        self.fin = Fin::Open;
        true
    }

    /// Gives idle memory back.
    pub(super) fn trim(&mut self) {
        let was_recent = std::mem::take(&mut self.is_recent);
        if self.chunks.is_empty() && !was_recent {
            self.chunks = VecDeque::new();
            (self.acked, self.lost) = (RangeSet::new(), RangeSet::new());
        }
    }

    /// Code and final size of a RESET_STREAM frame.
    pub(super) fn reset_frame(&self) -> Option<(u64, u64)> {
        match self.state {
            State::Send => None,
            State::ResetSent { code, .. } => Some((code, self.sent)),
        }
    }
}

/// How many of `available` bytes a frame takes in `room`, and whether it needs a length. One that fills the room does
/// not: it reaches to the end of the packet.
fn fit(id: StreamId, offset: u64, available: usize, room: usize) -> Option<(usize, bool)> {
    let head = 1 + varint::len(id.0) + if offset == 0 { 0 } else { varint::len(offset) };
    let bare = room.checked_sub(head)?;
    if available >= bare {
        return (bare >= CUT_MIN || (bare == available && bare > 0)).then_some((bare, false));
    }
    let len = available.min(bare.checked_sub(varint::len(available as u64))?);
    (len == available || len >= CUT_MIN).then_some((len, true))
}
