//! The lanes in which a datagram transport carries a session: ordered on the client's first stream, bulk on a stream per
//! transfer, ephemeral in datagrams.

use bytes::{Buf, BytesMut};
use handler::Close;
use tcp::frame::Deframer;

use crate::{
    line::Line,
    pipe::{LaneId, Pipe},
    speaker::Speaker,
    wires::Wires,
};

/// The first stream that a client opens on a connection of its own.
pub(crate) const FIRST: LaneId = LaneId(0);

/// Bulk transfers of one client under way at once. Each may hold one frame that is not whole.
pub(crate) const BULK_MAX: usize = 8;

/// Answers from this size on leave on a stream of their own, so that messages behind them do not wait for all of it. A
/// page of history has it, a message of chat has not.
pub(crate) const BULK_BYTES: usize = 16 * 1024;

/// A session in lanes.
pub(crate) struct Lanes {
    /// The connection's name in logs.
    pub(crate) id: String,
    /// The lane of everything that has an order, both ways. On WebTransport it is the client's to open.
    pub(crate) ordered_id: Option<LaneId>,
    pub(crate) ordered: Deframer,
    /// Transfers of the client that are not over.
    pub(crate) bulk: Vec<(LaneId, Deframer)>,
    pub(crate) speaker: Speaker,
    /// Packets that had been received when the session was last asked whether its client is silent.
    pub(crate) heard: u64,
    /// It is in the list of those whose queue is looked at.
    pub(crate) watched: bool,
    /// What its close will say.
    pub(crate) parting: Close,
    /// Transfers to the client that HTTP/3 has not handed to QUIC yet.
    answers: Vec<LaneId>,
    /// What found no room in the carrier, by its stream, and whether the stream ends behind it.
    waiting: Vec<Waiting>,
}

struct Waiting {
    id: LaneId,
    bytes: BytesMut,
    ends: bool,
}

impl Lanes {
    pub(crate) fn new(id: String, ordered_id: Option<LaneId>, speaker: Speaker, body_max: usize) -> Self {
        Self {
            id,
            ordered_id,
            // What a stranger sends is held in memory, too.
            ordered: Deframer::new(body_max),
            bulk: Vec::new(),
            speaker,
            heard: 0,
            watched: false,
            parting: Close::PeerLeft,
            answers: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The client begins a transfer; false if it has too many.
    pub(crate) fn begin(&mut self, id: LaneId, body_max: usize) -> bool {
        let fits = self.bulk.len() < BULK_MAX;
        if fits {
            self.bulk.push((id, Deframer::new(body_max)));
        }
        fits
    }

    /// A transfer is over, whole or not.
    pub(crate) fn end(&mut self, id: LaneId) {
        self.bulk.retain(|(other, _)| *other != id);
        if self.bulk.is_empty() {
            self.bulk = Vec::new();
        }
    }

    /// The client wants no more of a transfer: what waits for it is given up.
    pub(crate) fn forget(&mut self, id: LaneId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// Writes to the ordered lane, behind what waits for it. Before there is one, there is nobody to write to.
    pub(crate) fn write(&mut self, pipe: &mut Pipe<'_>, bytes: &[u8]) {
        if let Some(id) = self.ordered_id {
            self.write_to(pipe, id, bytes, false);
        }
    }

    /// Sends a transfer on a stream of its own; false if none is free.
    pub(crate) fn transfer(&mut self, pipe: &mut Pipe<'_>, bytes: &[u8]) -> bool {
        let Some(id) = pipe.open_bulk() else { return false };
        if let Pipe::Web { .. } = pipe {
            self.answers.push(id);
        }
        self.write_to(pipe, id, bytes, true);
        true
    }

    fn write_to(&mut self, pipe: &mut Pipe<'_>, id: LaneId, bytes: &[u8], ends: bool) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            return waiting.bytes.extend_from_slice(bytes);
        }
        let rest = &bytes[pipe.write(id, bytes, ends)..];
        if !rest.is_empty() {
            self.waiting.push(Waiting { id, bytes: rest.into(), ends });
        }
    }

    /// Ends the ordered lane behind what was written to it. False if it cannot be written to any more.
    pub(crate) fn finish(&mut self, pipe: &mut Pipe<'_>) -> bool {
        let Some(id) = self.ordered_id else { return false };
        match self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            Some(waiting) => waiting.ends = true,
            None => return pipe.finish(id),
        }
        true
    }

    /// The carrier has room on a stream again.
    pub(crate) fn resume(&mut self, pipe: &mut Pipe<'_>, id: LaneId) {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.id == id) else { return };
        let Waiting { bytes, ends, .. } = &mut self.waiting[place];
        let taken = pipe.write(id, bytes, *ends);
        bytes.advance(taken);
        if bytes.is_empty() {
            self.waiting.swap_remove(place);
        }
    }

    /// Bytes that wait here, or in what carries `line`.
    pub(crate) fn queued(&mut self, line: Line, wires: &Wires) -> usize {
        self.answers.retain(|id| wires.waiting(line, *id) > 0);
        let lanes = self.ordered_id.into_iter().chain(self.answers.iter().copied());
        let inside = match line {
            // Quantum counts all lanes together.
            Line::Quantum(_) => wires.waiting(line, FIRST),
            Line::Tcp(_) | Line::Quic(_) | Line::WebTransport(_) => lanes.map(|id| wires.waiting(line, id)).sum(),
        };
        self.waiting.iter().map(|waiting| waiting.bytes.len()).fold(inside, usize::saturating_add)
    }
}
