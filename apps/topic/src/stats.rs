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
    /// Topics at home here that were forgotten to make room.
    pub evicted: u64,
}

/// What is held on one shard.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Size {
    /// Topics at home here.
    pub topics: usize,
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
}
