//! What can go wrong with the engine itself, named so that an operator knows what to do.

use std::{io, net::SocketAddr};

use crate::reactor::ShardId;

/// Why the engine could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// Somebody else listens on the address.
    #[error("{transport} {addr} is in use by another process")]
    AddressInUse {
        /// `tcp` or `udp`.
        transport: &'static str,
        /// Which address.
        addr: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot bind {transport} {addr}: {error}")]
    Bind {
        /// `tcp` or `udp`.
        transport: &'static str,
        /// Which address.
        addr: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel refused a ring.
    #[error("cannot set up io_uring ({what}): {error}; `ringshard probe` names the cause")]
    Ring {
        /// Which step.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A shard's thread or executor did not come up.
    #[error("shard {shard} did not start: {message}")]
    Start {
        /// Which one.
        shard: ShardId,
        /// Why.
        message: String,
    },
    /// A shard panicked; the others were told to stop.
    #[error("shard {shard} died: {message}")]
    ShardDied {
        /// Which one.
        shard: ShardId,
        /// The panic's message.
        message: String,
    },
}
