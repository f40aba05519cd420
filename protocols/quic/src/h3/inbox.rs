//! What one stream brought and the app has not read: large pieces by reference, small ones gathered.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// Pieces below this size are gathered when others wait: a peer that sends a byte per frame costs no more than others.
const SMALL: usize = 256;

/// What a stream brings, in order.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of a body or a WebTransport stream; never empty.
    Data(Bytes),
    /// The trailer section of a message.
    Trailers(HeaderMap),
    /// Nothing more comes. Said once.
    End,
}

/// What of the peer's side of a stream is still to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Open,
    /// The peer ended it; the app has not read so far.
    Ended,
    /// Read to the end, or given up.
    Done,
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    trailers: Option<Box<HeaderMap>>,
    state: State,
    told: bool,
}

impl Inbox {
    /// An inbox of a stream that only this end sends on.
    pub(crate) fn none() -> Self {
        Self { state: State::Done, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() || self.state != State::Open {
            return;
        }
        self.len += piece.len();
        if piece.len() < SMALL && self.len > piece.len() {
            return self.tail.extend_from_slice(&piece);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.tail).freeze());
        }
        self.pieces.push_back(piece);
    }

    pub(crate) fn push_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(Box::new(trailers));
    }

    /// The peer will send no more.
    pub(crate) fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ended;
        }
    }

    /// Drops all; returns how many bytes that were.
    pub(crate) fn give_up(&mut self) -> usize {
        let len = self.len;
        *self = Self::none();
        len
    }

    /// Whether there is something to read that the app was not told of; it counts as told then.
    pub(crate) fn tell(&mut self) -> bool {
        let has = self.len > 0 || self.trailers.is_some() || self.state == State::Ended;
        has && !std::mem::replace(&mut self.told, true)
    }

    /// Whether the end comes next.
    pub(crate) fn is_at_end(&self) -> bool {
        self.state == State::Ended && self.len == 0 && self.trailers.is_none()
    }

    /// Whether the peer's side is over for the app as well.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The next piece. `None`: nothing now; the app will be told when there is more.
    pub(crate) fn read(&mut self) -> Option<Piece> {
        let next = match self.pieces.pop_front() {
            None if !self.tail.is_empty() => Some(std::mem::take(&mut self.tail).freeze()),
            piece => piece,
        };
        if let Some(piece) = next {
            self.len -= piece.len();
            return Some(Piece::Data(piece));
        }
        if let Some(trailers) = self.trailers.take() {
            return Some(Piece::Trailers(*trailers));
        }
        self.told = false;
        if self.state == State::Ended {
            self.state = State::Done;
            return Some(Piece::End);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_small_ones_together() {
        let mut inbox = Inbox::default();
        let large = Bytes::from(vec![7; SMALL]);
        for piece in [Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::from_static(b"c"), large.clone()] {
            inbox.push(piece);
        }
        inbox.push_trailers(HeaderMap::new());
        inbox.end();
        assert!(inbox.tell() && !inbox.tell() && inbox.len() == 3 + SMALL);
        let mut lens = Vec::new();
        while let Some(Piece::Data(piece)) = inbox.read() {
            lens.push(piece.len());
        }
        assert_eq!(lens, [1, 2, SMALL], "the trailers came after the last piece");
        assert!(matches!(inbox.read(), Some(Piece::End)) && inbox.is_done() && inbox.read().is_none());
        assert!(!inbox.tell() && inbox.len() == 0);
    }

    #[test]
    fn a_byte_at_a_time_costs_no_more_than_its_bytes() {
        let mut inbox = Inbox::default();
        for _ in 0..10_000 {
            inbox.push(Bytes::from_static(b"x"));
        }
        assert_eq!((inbox.pieces.len(), inbox.tail.len()), (1, 9_999));
    }
}
