//! The lanes in which a Quantum connection carries a session: ordered on the client's first stream, bulk on a stream per
//! transfer, ephemeral in datagrams.

use bytes::{Buf, BytesMut};
use handler::Close;
use quantum::{Connection, Direction, Guuid, Side, StreamId, lane::WriteError};
use tcp::frame::Deframer;

use crate::speaker::Speaker;

/// The lane of everything that has an order, both ways: the first stream that the client opens.
pub(crate) const ORDERED: StreamId = StreamId(0);

/// Bulk transfers of one client under way at once. Each may hold one frame that is not whole.
pub(crate) const BULK_MAX: usize = 8;

/// Answers from this size on leave on a stream of their own, so that messages behind them do not wait for all of it. A
/// page of history has it, a message of chat has not.
pub(crate) const BULK_BYTES: usize = 16 * 1024;

/// Priorities, 0 first: what is ephemeral has Quantum's own, before both.
pub(crate) const PRIORITY_BULK: u8 = 6;

/// A session in the lanes of a Quantum connection.
pub(crate) struct Lanes {
    /// The connection's name in logs.
    pub(crate) id: Guuid,
    pub(crate) ordered: Deframer,
    /// Transfers of the client that are not over.
    pub(crate) bulk: Vec<(StreamId, Deframer)>,
    pub(crate) speaker: Speaker,
    /// Packets that had been received when the session was last asked whether its client is silent.
    pub(crate) heard: u64,
    /// It is in the list of those whose queue is looked at.
    pub(crate) watched: bool,
    /// What its CLOSE will say.
    pub(crate) parting: Close,
    /// What found no room in Quantum, by its stream, and whether the stream ends behind it.
    waiting: Vec<Waiting>,
}

struct Waiting {
    id: StreamId,
    bytes: BytesMut,
    ends: bool,
}

impl Lanes {
    pub(crate) fn new(id: Guuid, speaker: Speaker, body_max: usize) -> Self {
        Self {
            id,
            // What a stranger sends is held in memory, too.
            ordered: Deframer::new(body_max),
            bulk: Vec::new(),
            speaker,
            heard: 0,
            watched: false,
            parting: Close::PeerLeft,
            waiting: Vec::new(),
        }
    }

    /// The client begins a transfer; false if it has too many.
    pub(crate) fn begin(&mut self, id: StreamId, body_max: usize) -> bool {
        let fits = self.bulk.len() < BULK_MAX;
        if fits {
            self.bulk.push((id, Deframer::new(body_max)));
        }
        fits
    }

    /// A transfer is over, whole or not.
    pub(crate) fn end(&mut self, id: StreamId) {
        self.bulk.retain(|(other, _)| *other != id);
        if self.bulk.is_empty() {
            self.bulk = Vec::new();
        }
    }

    /// Writes to a stream, behind what waits for it.
    pub(crate) fn write(&mut self, connection: &mut Connection, id: StreamId, bytes: &[u8]) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            return waiting.bytes.extend_from_slice(bytes);
        }
        let rest = &bytes[taken(connection.write(id, bytes), bytes.len())..];
        if !rest.is_empty() {
            self.waiting.push(Waiting { id, bytes: rest.into(), ends: false });
        }
    }

    /// Ends a stream behind what was written to it. False if it cannot be written to any more.
    pub(crate) fn finish(&mut self, connection: &mut Connection, id: StreamId) -> bool {
        match self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            Some(waiting) => waiting.ends = true,
            None => return connection.finish(id).is_ok(),
        }
        true
    }

    /// Quantum has room on a stream again.
    pub(crate) fn resume(&mut self, connection: &mut Connection, id: StreamId) {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.id == id) else { return };
        let Waiting { bytes, ends, .. } = &mut self.waiting[place];
        let len = bytes.len();
        bytes.advance(taken(connection.write(id, bytes), len));
        if bytes.is_empty() {
            if *ends {
                let _ = connection.finish(id);
            }
            self.waiting.swap_remove(place);
        }
    }

    /// Bytes that wait here or in Quantum.
    pub(crate) fn queued(&self, connection: &Connection) -> usize {
        let inside = usize::try_from(connection.queued_bytes()).unwrap_or(usize::MAX);
        self.waiting.iter().map(|waiting| waiting.bytes.len()).fold(inside, usize::saturating_add)
    }
}

/// How much of `len` bytes is done with. A stream that takes no more for good, because its reader stopped it, loses them.
fn taken(outcome: Result<usize, WriteError>, len: usize) -> usize {
    match outcome {
        Ok(taken) => taken,
        Err(WriteError::Blocked) => 0,
        Err(WriteError::Stopped(_) | WriteError::Closed) => len,
    }
}

/// Whether a stream is a transfer of the client's.
pub(crate) fn is_bulk(id: StreamId) -> bool {
    id.opener() == Side::Client && id.direction() == Direction::Unidirectional
}

/// The code and the words of a CLOSE.
pub(crate) fn parting(reason: Close) -> (u64, &'static str) {
    match reason {
        Close::PeerLeft => (0, "goodbye"),
        Close::PeerSilent => (1, "silent for too long"),
        Close::PeerMisbehaved => (2, "a rule was broken"),
        Close::OutOfLimit => (3, "a limit was reached"),
        Close::Draining => (4, "the server is stopping"),
    }
}
