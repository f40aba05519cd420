//! Every limit of a topic, with its reason.

use std::time::Duration;

/// The longest name of a topic in bytes; part of the session protocol.
pub const TOPIC_BYTES_MAX: usize = 200;

/// The longest body in bytes: a frame of the session protocol.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest ephemeral body. A shard keeps 256 of them for every topic that it listens to: at most 1 MiB per topic.
pub const EPHEMERAL_BYTES_MAX: usize = 4 * 1024;

/// The longest key of an ephemeral value: keys are words as `cursor` or `typing`.
pub const KEY_BYTES_MAX: usize = 64;

/// The longest user or device name that is carried: 64 characters of at most four bytes.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// Bytes of records in one answer to a pull, unless a single record is longer. Half of the soft limit of a connection's
/// outbound queue, so that one answer on an empty queue never makes its reader lag.
pub const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// Records of one page of history.
pub const PAGE_RECORDS_MAX: usize = 100;

/// Newest ephemeral values kept per topic and listening shard: 100 people with a cursor, a name and a view fit nearly.
pub const EPHEMERAL_VALUES_MAX: usize = 256;

/// An ephemeral value older than this is worth nothing to a reader that comes back.
pub const EPHEMERAL_AGE_MAX: Duration = Duration::from_secs(10);

/// Who comes and goes is gathered for this long: a person does not see the difference, a reload leaves no trace.
pub const PRESENCE_WINDOW: Duration = Duration::from_millis(250);

/// A crowd is told less often: this much more per user that is there keeps one topic under 4,000 pushes a second.
pub(crate) const PRESENCE_WINDOW_PER_USER: Duration = Duration::from_micros(250);

/// Names in one list of a presence push: what a person reads; the count is always exact.
pub const PRESENCE_NAMES_MAX: usize = 50;

/// Changes remembered per presence window, enough to fill both lists after those that cancel out.
pub(crate) const PRESENCE_CHANGES_MAX: usize = 4 * PRESENCE_NAMES_MAX;

/// Users per topic whose watermarks are kept: a large room counts its readers elsewhere.
pub(crate) const WATERMARKS_MAX: usize = 10_000;

/// Topics that a shard knows of, for each place among [`Limits::topics_max`]: most of them have no messages any more, and
/// are no more than a fact of 300 bytes. Beyond this a topic that has never been written to is refused.
pub(crate) const KNOWN_PER_PLACE: usize = 4;

/// One part in so many of the places is for topics that the app reserves them for.
pub(crate) const RESERVED_PART: usize = 2;

/// Marks that a shard keeps on disk, for each place among [`Limits::topics_max`]; guests have half of them.
pub(crate) const MARKS_PER_PLACE: usize = 4;

/// Topics that are forgotten at one look, and marks: what fits a batch.
pub(crate) const FORGET_AT_ONCE: usize = 512;

/// Bytes of facts about messages that are taken back at one look, as topics are forgotten: two batches, and a record of so
/// many is one batch that is read at once.
pub(crate) const FORGET_FACT_BYTES: usize = 256 * 1024;

/// Names kept although nobody uses them right now, so that a user who publishes now and then costs no allocation.
pub(crate) const NAMES_IDLE_MAX: usize = 4_096;

/// When to try again after a refusal for lack of room: about the time in which a room empties.
pub(crate) const RETRY_MS: u32 = 5_000;

const _: () = assert!(PRESENCE_NAMES_MAX * (NAME_BYTES_MAX + 2) <= BODY_BYTES_MAX, "a list of names fits a frame");
const _: () = assert!(BODY_BYTES_MAX <= u32::MAX as usize && NAME_BYTES_MAX <= u16::MAX as usize, "lengths are packed");

/// The limits that a configuration may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Topics at home on one shard that are in memory. Four times as many are known; half of both can be kept for names
    /// that the app reserves.
    pub topics_max: usize,
    /// Topics that one shard listens to.
    pub listening_max: usize,
    /// Subscriptions of one peer.
    pub subs_max: usize,
    /// Records of one topic's history.
    pub history_records_max: usize,
    /// Bytes of the bodies in one topic's history.
    pub history_bytes_max: usize,
    /// Bytes of all histories on one shard. A history may grow by an eighth of what is left, so that the first few
    /// topics cannot take all of it.
    pub history_total_bytes_max: usize,
    /// Bytes of one segment of the journal.
    pub segment_bytes: u64,
    /// Bytes of the journal of one shard; when it is longer its oldest messages go.
    pub journal_bytes: u64,
    /// Bytes of one topic's messages on disk; the oldest go.
    pub retention_bytes: u64,
    /// How old messages on disk get, in milliseconds.
    pub retention_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            topics_max: 65_536,
            listening_max: 65_536,
            subs_max: 256,
            history_records_max: 1_000,
            history_bytes_max: 4 * 1024 * 1024,
            history_total_bytes_max: 256 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
            journal_bytes: 8 * 1024 * 1024 * 1024,
            retention_bytes: 256 * 1024 * 1024,
            retention_ms: 30 * 24 * 3_600 * 1_000,
        }
    }
}
