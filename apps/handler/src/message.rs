//! What peers say to apps and apps to peers: the session protocol's messages without their encoding.

use std::sync::Arc;

use bytes::Bytes;

/// What a peer asks for. `id` is the peer's correlation id and comes back in the answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Message<'a> {
    /// Subscribe; `after: None` means from now on, `Some(n)` everything with an offset above `n`.
    Sub {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: &'a str,
        /// The identity of the history that `after` counts in; another one means: from its start.
        epoch: Option<u64>,
        /// The last offset that the peer has.
        after: Option<u64>,
    },
    /// End a subscription.
    Unsub {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: &'a str,
    },
    /// Publish.
    Pub {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: &'a str,
        /// The device's own counter in this topic, for exactly-once; `None`: at least once.
        seq: Option<u64>,
        /// The body: JSON text.
        body: &'a [u8],
    },
    /// Tell the others the newest value of `key`, without history.
    Eph {
        /// The topic's name.
        topic: &'a str,
        /// Which value.
        key: &'a str,
        /// The body: JSON text.
        body: &'a [u8],
    },
    /// Watermarks; they only rise.
    Ack {
        /// The topic's name.
        topic: &'a str,
        /// All up to here has arrived.
        delivered: u64,
        /// All up to here was seen.
        read: u64,
    },
    /// Call an operation, as `chat.history`.
    Req {
        /// Correlation.
        id: u32,
        /// App and operation with a dot between.
        op: &'a str,
        /// The body: JSON text.
        body: &'a [u8],
    },
}

/// What an app tells a peer. Bodies are shared, names are the shard's own, so that a push costs no copy.
#[derive(Clone, Debug)]
pub enum Push {
    /// The subscription stands; what it missed follows, then what is new.
    SubOk {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: Arc<str>,
        /// The topic's number on this shard.
        alias: u32,
        /// The identity of the history.
        epoch: u64,
        /// The newest offset; 0: none yet.
        head: u64,
    },
    /// The subscription has ended.
    UnsubOk {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The message has its place in the topic.
    PubOk {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: Arc<str>,
        /// Its place.
        offset: u64,
        /// How safe it is.
        level: Level,
    },
    /// The answer to a `Req`.
    Res {
        /// Correlation.
        id: u32,
        /// The body: JSON text.
        body: Bytes,
    },
    /// The answer to anything that cannot be done.
    Err {
        /// Correlation, if it was about one request.
        id: Option<u32>,
        /// What kind.
        code: Code,
        /// In words, for the developer at the other end.
        message: String,
        /// When to try again.
        retry_ms: Option<u32>,
    },
    /// A message of a topic.
    Msg {
        /// The topic's name.
        topic: Arc<str>,
        /// The topic's number on this shard.
        alias: u32,
        /// Its place.
        offset: u64,
        /// The user who published it.
        from: Arc<str>,
        /// When its home shard took it, milliseconds since 1970.
        at_ms: u64,
        /// The body: JSON text.
        body: Bytes,
    },
    /// The newest value of (sender, key).
    Eph {
        /// The topic's name.
        topic: Arc<str>,
        /// The topic's number on this shard.
        alias: u32,
        /// The user who sent it.
        from: Arc<str>,
        /// Which value.
        key: Arc<str>,
        /// The body: JSON text.
        body: Bytes,
    },
    /// Who came and went since the last one, and how many users there are.
    Presence {
        /// The topic's name.
        topic: Arc<str>,
        /// The topic's number on this shard.
        alias: u32,
        /// Users that came.
        joined: Arc<[Arc<str>]>,
        /// Users that left.
        left: Arc<[Arc<str>]>,
        /// Users that are there.
        count: u32,
    },
    /// History before `first` is gone.
    Gap {
        /// The topic's name.
        topic: Arc<str>,
        /// The topic's number on this shard.
        alias: u32,
        /// The oldest offset that there is.
        first: u64,
    },
}

/// How safe an acknowledged message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// In the memory of its home shard.
    Memory,
    /// On disk.
    Durable,
}

/// What kind of wrong: gRPC's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The request makes no sense, whatever the state.
    InvalidArgument,
    /// No such thing.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// The caller may not.
    PermissionDenied,
    /// Nobody knows who the caller is.
    Unauthenticated,
    /// A limit; try later.
    ResourceExhausted,
    /// Not in this state.
    FailedPrecondition,
    /// An offset beyond the end.
    OutOfRange,
    /// There is no such operation.
    Unimplemented,
    /// Our fault.
    Internal,
    /// Try again.
    Unavailable,
    /// It took too long.
    DeadlineExceeded,
}

impl Code {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Code::InvalidArgument => "invalid_argument",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::Unauthenticated => "unauthenticated",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DeadlineExceeded => "deadline_exceeded",
        }
    }
}
