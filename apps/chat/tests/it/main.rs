//! A room on one shard: what may be said, what is heard, and what the history gives back.

mod room;
mod shard;
