//! The receiving half of a stream: bytes that arrived, until the application reads them (RFC 9000, section 3.2).

use crate::{
    error::{Checked, Code, TransportError, check_pieces},
    lane::{limits::ReadError, ring::Ring, window::Window},
    range::RangeSet,
};

/// Pieces out of order that a stream holds: a floor, and one more per KiB of its window. That is about what the packets
/// of a correct peer carry, which meets this limit only when hundreds of tiny frames are lost at once.
pub(crate) const PIECES_MIN: usize = 256;
pub(crate) const PIECE_BYTES: u64 = 1024;

const FINAL_SIZE: TransportError = TransportError::new(Code::FinalSize, "data beyond the end of a stream");
const FINAL_SIZE_CHANGED: TransportError = TransportError::new(Code::FinalSize, "another end of a stream");
const FINAL_SIZE_BELOW: TransportError = TransportError::new(Code::FinalSize, "a stream ends before its data");
const FLOW_CONTROL: TransportError = TransportError::new(Code::FlowControl, "data beyond the limit of a stream");
const PIECES: TransportError = TransportError::new(Code::ProtocolViolation, "a stream in too many pieces");

/// Where a half stands. `Size Known`, `Data Recvd` and `Data Read` of the RFC follow from the offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Bytes are taken.
    Recv,
    /// The application wants no more: bytes are counted and dropped until the end is known.
    Stopped { code: u64 },
    /// The peer gave up, and the application does not know yet.
    ResetRecvd { code: u64 },
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct RecvHalf {
    ring: Ring,
    /// All bytes below were read by the application.
    read: u64,
    /// All bytes below are here.
    ready: u64,
    /// All bytes from here on are not.
    highest: u64,
    /// What is here between them.
    pieces: RangeSet,
    final_size: Option<u64>,
    window: Window,
    state: State,
    /// `Readable` waits to be polled.
    pub(super) is_readable_told: bool,
    /// Bytes came since idle buffers were given back last.
    is_recent: bool,
}

impl RecvHalf {
    pub(super) fn new(window: Window) -> Self {
        Self {
            ring: Ring::default(),
            read: 0,
            ready: 0,
            highest: 0,
            pieces: RangeSet::new(),
            final_size: None,
            window,
            state: State::Recv,
            is_readable_told: false,
            is_recent: false,
        }
    }

    /// Checks where a frame ends against the end of the stream and its limit; by how much it moves `highest`, which the
    /// connection's limit has to allow before `insert`.
    pub(super) fn check(&self, end: u64, fin: bool) -> Checked<u64> {
        match self.final_size {
            Some(size) if end > size => return Err(FINAL_SIZE),
            Some(size) if fin && end != size => return Err(FINAL_SIZE_CHANGED),
            None if fin && end < self.highest => return Err(FINAL_SIZE_BELOW),
            _ => {}
        }
        if end > self.window.limit() {
            return Err(FLOW_CONTROL);
        }
        Ok(end.saturating_sub(self.highest))
    }

    /// Takes a checked frame; whether there is more to read than before.
    pub(super) fn insert(&mut self, offset: u64, data: &[u8], fin: bool) -> Checked<bool> {
        let (end, kept) = (offset + data.len() as u64, self.highest - self.read);
        self.highest = self.highest.max(end);
        let ends = fin && self.final_size.is_none();
        if ends {
            self.final_size = Some(end);
        }
        if self.state != State::Recv {
            return Ok(false);
        }
        let before = self.ready;
        let start = offset.max(self.ready);
        if start < end {
            self.is_recent = true;
            let most = (self.window.limit() - self.read) as usize;
            self.ring.reserve((end - self.read) as usize, kept as usize, most);
            self.put(start, &data[(start - offset) as usize..])?;
        }
        Ok(self.ready > before || (ends && self.ready == end))
    }

    /// Puts bytes into the ring. The first to arrive win: bytes that are here are never replaced.
    fn put(&mut self, start: u64, data: &[u8]) -> Checked<()> {
        let end = start + data.len() as u64;
        let mut at = start;
        for piece in self.pieces.overlapping(start..end) {
            if piece.start > at {
                let gap = &data[(at - start) as usize..(piece.start - start) as usize];
                self.ring.put((at - self.read) as usize, gap);
            }
            at = piece.end;
        }
        if at < end {
            self.ring.put((at - self.read) as usize, &data[(at - start) as usize..]);
        }
        if start > self.ready {
            self.pieces.insert(start..end);
            //= SPEC.md#12
            //# It MAY close with PROTOCOL_VIOLATION when one stream is in more pieces than 256 and one for each KiB of
            //# its window.
            return check_pieces(&self.pieces, PIECES_MIN + (self.window.size() / PIECE_BYTES) as usize, PIECES);
        }
        self.ready = end;
        while let Some(first) = self.pieces.first().filter(|first| first.start <= self.ready) {
            self.ready = self.ready.max(first.end);
            self.pieces.pop_first();
        }
        Ok(())
    }

    /// The peer gives up at `final_size`, which was checked; whether that is news. What was not read is dropped.
    pub(super) fn on_reset(&mut self, code: u64, final_size: u64) -> bool {
        // With all bytes here ("Data Recvd"), a reset changes nothing.
        let is_news = self.state == State::Recv && self.final_size != Some(self.ready);
        self.final_size = Some(final_size);
        self.highest = final_size;
        if is_news {
            self.state = State::ResetRecvd { code };
            self.forget();
        }
        is_news
    }

    /// The application wants no more; the bytes that it will not read.
    pub(super) fn stop(&mut self, code: u64) -> u64 {
        self.state = State::Stopped { code };
        self.forget();
        let dropped = self.highest - self.read;
        self.read = self.highest;
        dropped
    }

    fn forget(&mut self) {
        self.ring = Ring::default();
        self.pieces = RangeSet::new();
    }

    /// Bytes that came and will not be read, since the stream was stopped or reset: they give credit back at once.
    pub(super) fn discard(&mut self) -> u64 {
        if self.state == State::Recv {
            return 0;
        }
        let dropped = self.highest - self.read;
        self.read = self.highest;
        dropped
    }

    /// The next bytes.
    pub(super) fn chunk(&self) -> Result<&[u8], ReadError> {
        match self.state {
            State::Recv => Ok(self.ring.front((self.ready - self.read) as usize)),
            State::Stopped { .. } => Err(ReadError::Closed),
            State::ResetRecvd { code } => Err(ReadError::Reset(code)),
        }
    }

    /// Goes on behind `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        assert!(len as u64 <= self.ready - self.read, "consumed more than there was");
        self.read += len as u64;
        self.ring.advance(len);
        if self.read == self.highest {
            self.ring.rewind();
        }
    }

    /// Whether the peer is to be told that it may send more.
    pub(super) fn is_credit_due(&self) -> bool {
        self.final_size.is_none() && self.state == State::Recv && self.window.is_due(self.read)
    }

    /// Whether the peer can have a use for credit.
    pub(super) fn wants_credit(&self) -> bool {
        self.final_size.is_none() && self.state == State::Recv
    }

    /// The window, and from where it reaches.
    pub(super) fn window(&mut self) -> (&mut Window, u64) {
        (&mut self.window, self.read)
    }

    /// The limit that the peer was told.
    pub(super) fn limit(&self) -> u64 {
        self.window.limit()
    }

    /// The code of a STOP_SENDING frame, as long as one makes sense.
    pub(super) fn stop_code(&self) -> Option<u64> {
        match self.state {
            State::Stopped { code } if self.final_size.is_none() => Some(code),
            _ => None,
        }
    }

    /// Whether the application knows all that there is to know.
    pub(super) fn is_done(&self) -> bool {
        match self.state {
            State::Recv => self.final_size == Some(self.read),
            State::Stopped { .. } => self.final_size.is_some(),
            State::ResetRecvd { .. } => false,
        }
    }

    /// Gives idle buffers back; whether one was kept because it was used since the last time.
    pub(super) fn trim(&mut self) -> bool {
        let was_recent = std::mem::take(&mut self.is_recent);
        if self.read == self.highest && !was_recent {
            self.forget();
        }
        self.ring.capacity() > 0
    }

    /// Panics when the offsets contradict each other.
    #[cfg(feature = "simulation")]
    pub(super) fn check_books(&self) {
        let is_read = self.state != State::Recv || self.read <= self.ready && self.ready <= self.highest;
        assert!(is_read && self.read <= self.highest && self.highest <= self.window.limit());
        assert!(self.final_size.is_none_or(|size| self.highest <= size));
        assert!(self.ring.capacity() as u64 <= 2 * self.window.size(), "a ring outgrows its window");
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.ring.capacity() + self.pieces.len() * 16
    }
}
