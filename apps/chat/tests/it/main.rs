//! A room on one shard: what may be said, what is heard, and what the history gives back. And the model of a messenger:
//! groups, users' directories, messages.

mod amend;
mod contact;
mod crash;
mod crowd;
mod day;
mod group;
mod inbox;
mod leave;
mod many;
mod presence;
mod push;
mod rate;
mod room;
mod shard;
mod talk;
mod walk;
mod world;
