//! What clients and servers say to each other, without the encoding.
//!
//! Texts are borrowed from the bytes they came in where those hold them as they are. A `body` is JSON text in both codecs: a
//! valid object, checked when it was decoded, so that a server may put the bytes of one client into another's message.

use std::{borrow::Cow, sync::Arc};

use crate::{Code, Level};

/// What a client says.
#[derive(Clone, PartialEq, Debug)]
pub enum Client<'a> {
    /// The first message: who it is and what it subscribes to.
    Hello(Hello<'a>),
    /// Subscribe.
    Sub {
        /// Correlation.
        id: u32,
        /// Which topic.
        topic: Topic<'a>,
        /// The identity of the history that `after` counts in.
        epoch: Option<u64>,
        /// The last offset that the client has; `None`: from now on.
        after: Option<u64>,
    },
    /// End a subscription.
    Unsub {
        /// Correlation.
        id: u32,
        /// Which topic.
        topic: Topic<'a>,
    },
    /// Publish.
    Pub {
        /// Correlation.
        id: u32,
        /// Which topic.
        topic: Topic<'a>,
        /// The device's own counter in this topic, for exactly-once.
        seq: Option<u64>,
        /// JSON text.
        body: &'a [u8],
    },
    /// Tell the others the newest value of `key`; nothing comes back.
    Eph {
        /// Which topic.
        topic: Topic<'a>,
        /// Which value.
        key: Cow<'a, str>,
        /// JSON text.
        body: &'a [u8],
    },
    /// Watermarks; nothing comes back. They only rise, so 0 changes nothing.
    Ack {
        /// Which topic.
        topic: Topic<'a>,
        /// All up to here has arrived.
        delivered: u64,
        /// All up to here was seen.
        read: u64,
    },
    /// Call an operation.
    Req {
        /// Correlation.
        id: u32,
        /// App and operation, as `chat.history`.
        op: Cow<'a, str>,
        /// JSON text.
        body: &'a [u8],
    },
    /// Is anybody there?
    Ping {
        /// Correlation.
        id: u32,
    },
}

/// The first message of a client.
#[derive(Clone, PartialEq, Debug)]
pub struct Hello<'a> {
    /// Correlation.
    pub id: u32,
    /// The oldest version of the protocol that the client speaks.
    pub version_min: u32,
    /// The newest version of the protocol that the client speaks.
    pub version_max: u32,
    /// Features that the client understands, one bit each. None is defined yet.
    pub features: u64,
    /// Who it is.
    pub credential: Credential<'a>,
    /// Which of the user's devices; empty when a session is resumed.
    pub device: Cow<'a, str>,
    /// What it subscribes to, in the same round trip.
    pub subs: Vec<Subscription<'a>>,
}

impl<'a> Hello<'a> {
    /// A hello of this version without subscriptions.
    #[must_use]
    pub fn new(id: u32, credential: Credential<'a>, device: impl Into<Cow<'a, str>>) -> Self {
        let version = u32::from(crate::VERSION);
        Self {
            id,
            version_min: version,
            version_max: version,
            features: 0,
            credential,
            device: device.into(),
            subs: Vec::new(),
        }
    }
}

/// How a client says who it is.
#[derive(Clone, PartialEq, Debug)]
pub enum Credential<'a> {
    /// By a signed token.
    Token(Cow<'a, str>),
    /// By the ticket of its last welcome.
    Resume {
        /// The session of that welcome.
        session: Cow<'a, str>,
        /// Its ticket.
        ticket: Cow<'a, str>,
    },
}

/// One subscription of a hello.
#[derive(Clone, PartialEq, Debug)]
pub struct Subscription<'a> {
    /// The topic's name.
    pub topic: Cow<'a, str>,
    /// The identity of the history that `after` counts in.
    pub epoch: Option<u64>,
    /// The last offset that the client has; `None`: from now on.
    pub after: Option<u64>,
}

/// Which topic a client means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Topic<'a> {
    /// By its name: always in JSON.
    Name(Cow<'a, str>),
    /// By the number that an answer to a subscription gave it on this connection.
    Alias(u32),
}

impl<'a> From<&'a str> for Topic<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl Client<'_> {
    /// The correlation id, of those that are answered.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        match self {
            Client::Hello(Hello { id, .. })
            | Client::Sub { id, .. }
            | Client::Unsub { id, .. }
            | Client::Pub { id, .. }
            | Client::Req { id, .. }
            | Client::Ping { id } => Some(*id),
            Client::Eph { .. } | Client::Ack { .. } => None,
        }
    }

    /// The topic that it is about.
    #[must_use]
    pub fn topic(&self) -> Option<&Topic<'_>> {
        match self {
            Client::Sub { topic, .. }
            | Client::Unsub { topic, .. }
            | Client::Pub { topic, .. }
            | Client::Eph { topic, .. }
            | Client::Ack { topic, .. } => Some(topic),
            Client::Hello(_) | Client::Req { .. } | Client::Ping { .. } => None,
        }
    }
}

/// What a server says.
///
/// `alias` is the topic's number in frames; JSON has none, and 0 is none. A push with an alias carries no name in its frame:
/// read back, its `topic` is empty.
#[derive(Clone, PartialEq, Debug)]
pub enum Server<'a> {
    /// The answer to a hello.
    Welcome {
        /// Correlation.
        id: u32,
        /// The session's id, a UUID of version 7.
        session: Cow<'a, str>,
        /// Who the client is.
        user: Cow<'a, str>,
        /// What the session is resumed by.
        ticket: Cow<'a, str>,
        /// The shard that the connection is on.
        shard: u32,
        /// Silence after which the server asks whether the client is there.
        ping_ms: u32,
        /// What became of the hello's subscriptions, in their order.
        subs: Vec<SubResult<'a>>,
    },
    /// The subscription stands; what it missed follows, then what is new.
    SubOk {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: Cow<'a, str>,
        /// The topic's number from here on.
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
        topic: Cow<'a, str>,
    },
    /// The message has its place in the topic.
    PubOk {
        /// Correlation.
        id: u32,
        /// The topic's name.
        topic: Cow<'a, str>,
        /// Its place.
        offset: u64,
        /// How safe it is.
        level: Level,
    },
    /// The answer to a `req`.
    Res {
        /// Correlation.
        id: u32,
        /// JSON text.
        body: &'a [u8],
    },
    /// The answer to a `ping`. With id 0 nobody asked: the server wants to hear something.
    Pong {
        /// Correlation.
        id: u32,
        /// The server's clock, milliseconds since 1970.
        at_ms: u64,
    },
    /// The answer to anything that cannot be done.
    Err {
        /// Correlation, if it is about one request that could be read.
        id: Option<u32>,
        /// What kind.
        code: Code,
        /// In words, for the developer at the other end.
        message: Cow<'a, str>,
        /// When to try again.
        retry_ms: Option<u32>,
    },
    /// A message of a topic.
    Msg {
        /// The topic's name.
        topic: Cow<'a, str>,
        /// The topic's number.
        alias: u32,
        /// Its place.
        offset: u64,
        /// The user who published it.
        from: Cow<'a, str>,
        /// When the server took it, milliseconds since 1970.
        at_ms: u64,
        /// JSON text.
        body: &'a [u8],
    },
    /// The newest value of (sender, key).
    Eph {
        /// The topic's name.
        topic: Cow<'a, str>,
        /// The topic's number.
        alias: u32,
        /// The user who sent it.
        from: Cow<'a, str>,
        /// Which value.
        key: Cow<'a, str>,
        /// JSON text.
        body: &'a [u8],
    },
    /// Who came and went since the last one, and how many users there are.
    Presence {
        /// The topic's name.
        topic: Cow<'a, str>,
        /// The topic's number.
        alias: u32,
        /// Users that came.
        joined: Names<'a>,
        /// Users that left.
        left: Names<'a>,
        /// Users that are there.
        count: u32,
    },
    /// History before `first` is gone.
    Gap {
        /// The topic's name.
        topic: Cow<'a, str>,
        /// The topic's number.
        alias: u32,
        /// The oldest offset that there is.
        first: u64,
    },
    /// The server ends this connection soon.
    Goaway {
        /// Why.
        reason: Cow<'a, str>,
        /// When to come back.
        retry_ms: u32,
    },
}

/// What became of one subscription of a hello.
#[derive(Clone, PartialEq, Debug)]
pub struct SubResult<'a> {
    /// The topic's name.
    pub topic: Cow<'a, str>,
    /// What became of it.
    pub state: SubState<'a>,
}

/// Whether a subscription of a hello stands.
#[derive(Clone, PartialEq, Debug)]
pub enum SubState<'a> {
    /// It stands.
    Ok {
        /// The topic's number from here on.
        alias: u32,
        /// The identity of the history.
        epoch: u64,
        /// The newest offset; 0: none yet.
        head: u64,
    },
    /// It was refused.
    Refused {
        /// What kind.
        code: Code,
        /// In words.
        message: Cow<'a, str>,
    },
}

/// A list of users: a server's shared names as they are, or what was read from bytes.
#[derive(Clone, Debug)]
pub enum Names<'a> {
    /// Shared with the server's own tables.
    Shared(&'a [Arc<str>]),
    /// Read from bytes.
    Read(Vec<Cow<'a, str>>),
}

impl Names<'_> {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Names::Shared(names) => names.len(),
            Names::Read(names) => names.len(),
        }
    }

    /// Whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (shared, read): (&[Arc<str>], &[Cow<'_, str>]) = match self {
            Names::Shared(names) => (names, &[]),
            Names::Read(names) => (&[], names),
        };
        shared.iter().map(|name| &**name).chain(read.iter().map(|name| &**name))
    }
}

impl PartialEq for Names<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
