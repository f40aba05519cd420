//! Ordered, resumable topics, as a part that apps embed: dense offsets from the topic's home shard, a bounded history,
//! fan-out by one letter per listening shard, presence, and newest ephemeral values.
//!
//! A topic lives twice: at its home, which alone gives offsets and keeps the history, and on every shard with a
//! subscriber, which knows its own peers. A subscription is either *live* and gets every letter as it comes, or *pulls*
//! out of the history until a chunk reaches the head. Mail between two shards keeps its order, so the chunk that reaches
//! the head comes after every letter it contains and before every letter it does not: the switch leaves no gap and
//! repeats nothing. A reader that is too slow goes back from live to pulling, and costs no queue meanwhile.
//!
//! What retention takes may come back with a run that keeps messages for longer, as far as it lies in a segment; what facts
//! spoke of that are gone does not.
//!
//! With a [`journal`] an acknowledgement says [`handler::Level::Durable`]: the message is on disk, and only then does any
//! reader see it. Topics that were excepted are in memory; a server that is asked to stop hands them to the next run, see
//! [`snapshot`].
//!
//! A durable topic whose last message has gone leaves memory: a fact says how far it came, so that it goes on from there.
//! A shard knows four times as many topics as it has places for; beyond three quarters of those it forgets topics without
//! messages, the oldest first, once no segment can have a message of them. What is forgotten begins anew, with another
//! epoch. Facts of the app about single messages go with it in one record, see [`Topics::speak_of_messages`]; what has other
//! facts of the app is never forgotten.

mod about;
mod arrival;
mod chain;
mod desk;
mod due;
mod ephemeral;
mod facts;
mod history;
mod home;
pub mod journal;
mod limit;
mod listening;
mod local;
mod mail;
mod member;
mod mutant;
mod name;
mod own;
mod page;
mod presence;
mod record;
mod section;
mod seen;
pub mod snapshot;
mod stats;
mod topic;
mod topics;
mod watermark;

pub use due::TIMER;
pub use facts::{Change, FACT_KEY_BYTES_MAX, FACT_VALUE_BYTES_MAX};
pub use home::NO_PEER;
pub use limit::{
    BODY_BYTES_MAX, CHUNK_BYTES_MAX, EPHEMERAL_AGE_MAX, EPHEMERAL_BYTES_MAX, EPHEMERAL_VALUES_MAX, KEY_BYTES_MAX,
    Limits, PAGE_RECORDS_MAX, PRESENCE_NAMES_MAX, PRESENCE_WINDOW, TOPIC_BYTES_MAX,
};
pub use mail::Mail;
pub use own::{News, Tail, Visit, VisitKind};
pub use page::Page;
pub use record::Record;
pub use stats::{JournalSize, Size, Stats};
pub use topics::Topics;
pub use watermark::Watermark;
