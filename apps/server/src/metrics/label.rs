//! The labels of metrics: closed sets, so that a scrape never grows with what clients send.

use engine::Counter;
use handler::Code;

macro_rules! label {
    ($(#[$doc:meta])+ $Type:ident { $($(#[$variant_doc:meta])+ $Variant:ident = $name:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $Type { $($(#[$variant_doc])+ $Variant,)+ }

        impl $Type {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$Variant,)+];

            /// The value of the label.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name,)+ }
            }
        }
    };
}

label! {
    /// What a connection speaks; it starts as `New` and is counted again when it is known.
    Transport {
        /// Not known yet.
        New = "new",
        /// The framed byte stream.
        Tcp = "tcp",
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2.
        Http2 = "http2",
        /// WebSocket.
        Websocket = "websocket",
        /// Quantum.
        Quantum = "quantum",
        /// HTTP/3, which may carry WebTransport sessions.
        Http3 = "http3",
        /// A WebTransport session.
        WebTransport = "webtransport",
        /// A session on QUIC streams.
        Quic = "quic",
    }
}

label! {
    /// Why a datagram was dropped before an endpoint saw it; their own reasons are [`quantum::Drop`] and [`quic::Drop`].
    DatagramDrop {
        /// Nothing is spoken on this socket.
        Unserved = "unserved",
        /// Passed on by another shard, and not for this one either.
        Misrouted = "misrouted",
        /// For another shard, whose mailbox is full.
        MailboxFull = "mailbox_full",
    }
}

label! {
    /// Why a connection was ended, or something was thrown away, by us.
    Drop {
        /// More connections than server.connections_max; the engine counts these.
        ConnectionsMax = "connections_max",
        /// More than limits.half_open_max without a hello.
        HalfOpenMax = "half_open_max",
        /// No hello in time.
        HelloLate = "hello_late",
        /// Too much before the hello.
        HelloLarge = "hello_large",
        /// Neither HTTP nor the preface.
        Protocol = "protocol",
        /// The TLS handshake failed, or a record is broken.
        Tls = "tls",
        /// A request that breaks HTTP's rules.
        Http = "http",
        /// A frame that breaks WebSocket's rules.
        Websocket = "websocket",
        /// A frame that breaks the session protocol's rules.
        Frame = "frame",
        /// A message larger than limits.frame_bytes.
        FrameLarge = "frame_large",
        /// No token, a forged or an expired one.
        Unauthenticated = "unauthenticated",
        /// An origin that is not listed.
        Origin = "origin",
        /// A message above the session's rate.
        Rate = "rate",
        /// A client that does not read: its queue is full.
        QueueFull = "queue_full",
        /// Silence.
        Idle = "idle",
        /// The server is stopping.
        Draining = "draining",
        /// Something that GoChat has no words for.
        GoChat = "gochat",
        /// Something that Hawos has no words for.
        Hawos = "hawos",
    }
}

label! {
    /// The hundreds of an HTTP status.
    Status {
        /// 1xx.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirect = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }
}

impl Status {
    /// The class of a status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct Family<const N: usize>([Counter; N]);

impl<const N: usize> Default for Family<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Family<N> {
    pub(super) fn at(&self, index: usize) -> &Counter {
        // The labels are closed enums and N is their count, which `catalogue`'s tests hold.
        &self.0[index]
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// All codes, for the label.
pub const CODES: [Code; 12] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::Unauthenticated,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DeadlineExceeded,
];

/// The place of a code in [`CODES`].
pub(super) fn code_index(code: Code) -> usize {
    match code {
        Code::InvalidArgument => 0,
        Code::NotFound => 1,
        Code::AlreadyExists => 2,
        Code::PermissionDenied => 3,
        Code::Unauthenticated => 4,
        Code::ResourceExhausted => 5,
        Code::FailedPrecondition => 6,
        Code::OutOfRange => 7,
        Code::Unimplemented => 8,
        Code::Internal => 9,
        Code::Unavailable => 10,
        Code::DeadlineExceeded => 11,
    }
}
