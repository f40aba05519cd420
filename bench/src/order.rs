//! What the control thread and the shards of the generator tell each other.

use engine::Counter;

use crate::tally::Tally;

/// What the control thread tells a shard.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Have this many connections of the whole run open, counted over all shards, then report ready.
    Open(u32),
    /// Run the plan from this time on, then report done.
    Go(u64),
    /// Close everything and leave.
    Quit,
}

/// What a shard tells the control thread.
#[derive(Debug)]
pub enum Report {
    /// All connections that were ordered are open, except so many that failed.
    Ready {
        /// Connections that could not be opened, or were lost since.
        failed: u32,
    },
    /// The plan is over.
    Done(Box<Tally>),
}

/// What a shard lets others see while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Sessions or connections that are ready.
    pub ready: Counter,
    /// Requests or publications so far.
    pub sent: Counter,
    /// Answers or deliveries so far.
    pub completed: Counter,
}
