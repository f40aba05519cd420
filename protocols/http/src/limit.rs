//! Every limit of the crate: what the owner may set, and what is fixed.

use std::time::Duration;

/// Requests of one HTTP/1.1 connection that wait for an answer. Browsers do not pipeline, load generators do by 16.
pub const PIPELINE_MAX: usize = 16;

/// Header fields of one request. Browsers send about 20; the array lies on the stack (32 bytes each).
pub const HEADERS_MAX: usize = 100;

/// Unsent bytes from which no further request is read: a stalled reader that pipelines gets no more than this and the
/// answers of one pipeline.
pub const OUTPUT_PAUSE: usize = 64 * 1024;

/// Unread bytes of a blocked connection from which [`crate::Connection::wants_input`] is false.
pub const INPUT_PAUSE: usize = 16 * 1024;

/// Unread bytes at which a connection is dropped whose owner went on reading: more than what can be on its way when
/// the owner pauses.
pub const INPUT_MAX: usize = 1024 * 1024;

/// Concurrent streams of one HTTP/2 connection; 100 is what RFC 9113 calls the least that keeps parallelism.
pub const STREAMS_MAX: u32 = 128;

/// HTTP/2 requests that are open for the owner, among them those that the peer has reset meanwhile (h2 does not count
/// these any more, the owner's work goes on).
pub(crate) const REQUESTS_MAX: usize = 2 * STREAMS_MAX as usize;

/// Resets by the peer, above the number of answered requests, that end an HTTP/2 connection: rapid reset.
pub(crate) const RESETS_MAX: u32 = 100;

/// Receive window of one HTTP/2 stream, and what h2 starts with.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;

/// Receive window of one HTTP/2 connection: four streams send at full speed.
pub(crate) const CONNECTION_WINDOW: u32 = 256 * 1024;

/// The method, the version and two spaces around the target of a request line.
pub(crate) const REQUEST_LINE_REST: usize = 64;

/// Line of one chunk: 8 digits and an extension that nobody sends.
pub(crate) const CHUNK_LINE_MAX: usize = 256;

/// Digits of a chunk's size: 4 GiB is beyond every body limit.
pub(crate) const CHUNK_DIGITS_MAX: usize = 8;

/// The trailer section after the last chunk.
pub(crate) const TRAILER_MAX: usize = 4 * 1024;

const _: () = assert!(INPUT_PAUSE < INPUT_MAX, "the owner must be asked to pause before it is cut off");
const _: () = assert!(STREAM_WINDOW <= CONNECTION_WINDOW, "a stream must be able to use its window");

/// What the owner may set. The defaults are those of the server's session API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a request target; longer is 414.
    pub target_max: u32,
    /// Bytes of a request head, request line included; larger is 431.
    pub head_max: u32,
    /// Bytes of a request body; larger is 413.
    pub body_max: u32,
    /// Bytes of all unfinished request bodies of one HTTP/2 connection.
    pub bodies_max: u32,
    /// Seconds from a head's first byte to its last, from the start to the first byte, and for an HTTP/2 preface.
    pub head_secs: u16,
    /// Seconds from a head's end to the body's end.
    pub body_secs: u16,
    /// Seconds that a connection without a request stays open.
    pub idle_secs: u16,
    /// Seconds without one byte taken by a reader that has answers waiting.
    pub stall_secs: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target_max: 8 * 1024,
            head_max: 16 * 1024,
            body_max: 64 * 1024,
            bodies_max: 1024 * 1024,
            head_secs: 10,
            body_secs: 30,
            idle_secs: 60,
            stall_secs: 30,
        }
    }
}

impl Limits {
    pub(crate) fn head(&self) -> Duration {
        Duration::from_secs(self.head_secs.into())
    }

    pub(crate) fn body(&self) -> Duration {
        Duration::from_secs(self.body_secs.into())
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_secs.into())
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_secs.into())
    }
}
