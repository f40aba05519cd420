//! Topics in a small world: shards of `Topics`, mail between them that is late but in order per pair, and clients that
//! come, go, lag and resume. Every run prints its seed.

mod client;
mod fanout;
mod limit;
mod snapshot;
mod story;
mod world;
