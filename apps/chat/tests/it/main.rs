//! A room on one shard: what may be said, what is heard, and what the history gives back. And the model of a messenger:
//! groups, users' directories, messages.

mod group;
mod room;
mod shard;
mod walk;
