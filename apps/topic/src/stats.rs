//! What happened and what is held, in numbers for metrics and tests.

/// Counters of one shard; they only rise.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Messages that got their place here, at home.
    pub published: u64,
    /// Publications that were repeats of one that is held.
    pub repeated: u64,
    /// Letters with a message that arrived here, one per message and listening shard.
    pub delivered: u64,
    /// Pushes of messages to peers here as they came.
    pub pushed: u64,
    /// Pushes of messages to peers here out of a history.
    pub replayed: u64,
    /// Times that a peer began to lag in a topic.
    pub lagged: u64,
    /// Gaps that peers were told.
    pub gaps: u64,
    /// Ephemeral values that were relayed here, at home.
    pub waved: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Topics at home here that were forgotten to make room, or whose messages were, if they are on disk.
    pub evicted: u64,
    /// Topics without messages that were forgotten to make room for new ones.
    pub forgotten: u64,
    /// Answers that were gathered from the disk.
    pub gathered: u64,
    /// Batches that could not be read when they were needed.
    pub unreadable: u64,
    /// Times that a reader went on without a batch that could not be read.
    pub given_up: u64,
    /// Batches of topics that went by age or bytes.
    pub trimmed_batches: u64,
    /// Messages of an earlier run that were in memory only and are on disk now.
    pub moved: u64,
    /// Segments that were written anew.
    pub compacted: u64,
    /// Marks that could not be written.
    pub marks_lost: u64,
}

/// What a shard's journal is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalSize {
    /// Why nothing can be written, if so.
    pub trouble: Option<&'static str>,
    /// Segments.
    pub segments: usize,
    /// Bytes of them that count.
    pub bytes: u64,
    /// Bytes of records that are still needed.
    pub live_bytes: u64,
    /// Bytes of records that wait for the disk.
    pub waiting_bytes: usize,
    /// Batches that this run has committed.
    pub commits: u64,
    /// Bytes that it has written for them.
    pub bytes_written: u64,
    /// Times that the disk did not take something.
    pub troubles: u64,
    /// Facts.
    pub facts: usize,
    /// Readers that wait for the disk.
    pub readers: usize,
}

/// What is held on one shard.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Size {
    /// Topics at home here that are in memory.
    pub topics: usize,
    /// Topics at home here that are not: nothing is left of them but how far they came and were read.
    pub asleep: usize,
    /// Bytes of their histories.
    pub history_bytes: usize,
    /// Entries of shards that listen to topics at home here.
    pub listeners: usize,
    /// Topics that this shard listens to.
    pub listening: usize,
    /// Peers here.
    pub peers: usize,
    /// Subscriptions of these peers.
    pub subs: usize,
    /// Subscriptions that wait for their home.
    pub pending: usize,
    /// Names that something refers to.
    pub names: usize,
    /// Chores that wait for their time.
    pub chores: usize,
    /// Entries that say where messages lie on disk.
    pub places: usize,
}
