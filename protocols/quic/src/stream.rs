//! Streams: their ids, and what may be wrong with one.

/// A stream of a connection, as RFC 9000 numbers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who accepted.
    Server,
}

/// Who may write on a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Both.
    Bidirectional,
    /// Only who opened it.
    Unidirectional,
}

impl StreamId {
    /// The `index`th stream that a side opens in a direction.
    #[must_use]
    pub fn new(side: Side, direction: Direction, index: u64) -> Self {
        Self(index << 2 | u64::from(direction == Direction::Unidirectional) << 1 | u64::from(side == Side::Server))
    }

    /// Who opened it.
    #[must_use]
    pub fn side(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }

    /// Who may write on it.
    #[must_use]
    pub fn direction(self) -> Direction {
        if self.0 & 2 == 0 { Direction::Bidirectional } else { Direction::Unidirectional }
    }

    /// How many streams of its kind were opened before it.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0 >> 2
    }

    /// Whether one side only sends on it.
    #[must_use]
    pub const fn is_uni(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether the server opened it.
    #[must_use]
    pub const fn is_of_server(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether it can carry a request of HTTP/3, and so name a WebTransport session.
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.0 & 3 == 0
    }
}

/// Why nothing could be read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamError {
    /// Nothing now; an event will tell.
    #[error("nothing to read, or no room to write, for now")]
    Blocked,
    /// The peer gave the stream up.
    #[error("reset by the peer with code {0:#x}")]
    Reset(u64),
    /// The peer wants no more of it.
    #[error("stopped by the peer with code {0:#x}")]
    Stopped(u64),
    /// The peer allows no more streams for now.
    #[error("no more streams are allowed")]
    Limit,
    /// There is no such stream, it is over, or it does not go this way.
    #[error("no such stream")]
    Unknown,
}

impl From<quiche::Error> for StreamError {
    fn from(error: quiche::Error) -> Self {
        match error {
            quiche::Error::Done => Self::Blocked,
            quiche::Error::StreamReset(code) => Self::Reset(code),
            quiche::Error::StreamStopped(code) => Self::Stopped(code),
            quiche::Error::StreamLimit => Self::Limit,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_low_bits_say_whose_and_which_ways() {
        let id = StreamId::new(Side::Server, Direction::Unidirectional, 2);
        assert_eq!(
            (id, id.side(), id.direction(), id.index()),
            (StreamId(11), Side::Server, Direction::Unidirectional, 2)
        );
        assert!(id.is_uni() && id.is_of_server() && !id.is_request());
        assert!(StreamId(8).is_request() && StreamId::new(Side::Client, Direction::Bidirectional, 2) == StreamId(8));
    }
}
