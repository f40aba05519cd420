//! What shards and the control thread send each other.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use ringshard_http::RequestId;
use topic::snapshot::Share;

use crate::{
    housekeeping::Ended,
    job::{Answer, Asked},
    line::Line,
};

/// Mail of the server; an app's own mail is wrapped in its variant.
#[derive(Debug)]
pub enum Mail {
    /// Shard to shard: chat's.
    Chat(topic::Mail),
    /// Shard to shard: datagrams that reached the wrong one.
    Datagrams(Box<Forwarded>),
    /// Shard to shard while draining: all that was sent before it has arrived.
    Barrier(Round),
    /// Shard to control: the shard serves.
    Ready,
    /// Shard to control: an HTTP request that needs the control thread.
    Asked(Box<Asked>),
    /// Control to shard: the answer to it.
    Answered {
        /// The connection that waits.
        line: Line,
        /// Its request.
        request: RequestId,
        /// What came out.
        answer: Box<Answer>,
    },
    /// Control to shard: logins have ended, and their sessions with them.
    Ended(Arc<Ended>),
    /// Control to shard: finish what is open, and be gone by then.
    Drain {
        /// By when.
        until: Instant,
    },
    /// Shard to control, once while draining: its topics, for the next run. It acknowledges nothing after it.
    Snapshot(Share),
    /// Shard to control: it has drained, and leaves.
    Drained,
}

/// The rounds of the barrier that shards pass when they drain. A message published before the drain has reached its
/// home when the first round is complete, and all its readers' shards when the second is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Round {
    /// What was on its way home has arrived.
    Home,
    /// What homes sent on has arrived.
    Reader,
}

/// Datagrams of one sender for a connection of another shard than the one that the kernel gave them to.
#[derive(Debug)]
pub struct Forwarded {
    /// Who sent them.
    pub peer: SocketAddr,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
    /// Bytes per datagram; the last one may be shorter.
    pub segment: usize,
    /// All datagrams, one after the other.
    pub bytes: Bytes,
}
