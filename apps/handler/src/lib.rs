//! All that an app may know: what it is told (`App`, `Message`), what it may ask for (`Cx`, `Effect`), and nothing of
//! sockets, codecs or other apps.
//!
//! An app is a value on every shard. It keeps what is local to the shard, finds the home shard of a key with
//! [`Cx::home`], and talks to itself on other shards by [`Cx::mail`]. `Cx` is a plain queue: a test reads it.

mod app;
mod cx;
mod disk;
mod home;
mod id;
mod message;

pub use app::{App, Close, Peer, PeerInfo, Pressure, Timer};
pub use cx::{Copier, Cx, Effect, Out};
pub use disk::{DiskOperation, FileId, Outcome, Ticket};
pub use home::{Map, VSHARDS, vshard};
pub use id::{TimeId, TimeIds};
pub use message::{Code, Level, Message, Push};

/// One shard, counted from 0 without holes; the same number as the engine's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u16);
