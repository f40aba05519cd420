//! Topics in a small world: shards of `Topics`, mail between them that is late but in order per pair, and clients that
//! come, go, lag and resume. With journals on bad disks they lose their power, too. Every run prints its seed.

mod about;
mod asleep;
mod client;
mod commit;
mod disk;
mod fanout;
mod group;
mod handover;
mod limit;
mod oracle;
mod power;
mod reader;
mod snapshot;
mod story;
mod trouble;
mod world;
