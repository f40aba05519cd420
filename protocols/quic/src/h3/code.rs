//! The error codes that HTTP/3, QPACK and WebTransport put on the wire, and what a broken rule costs.

/// An error code of a reset, a stop or a close (RFC 9114 section 8.1, RFC 9204 section 6, RFC 9297 section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Code(pub u64);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name, for a counter's label; `other` for a code of somebody else.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self.0 {
                    $($value => stringify!($name),)*
                    _ => "other",
                }
            }
        }
    };
}

codes! {
    /// The connection or stream ends without an error.
    NO_ERROR = 0x100;
    /// A rule without a code of its own is broken.
    GENERAL_PROTOCOL_ERROR = 0x101;
    /// This end failed.
    INTERNAL_ERROR = 0x102;
    /// A stream that the peer must not open.
    STREAM_CREATION_ERROR = 0x103;
    /// The control stream, or one of QPACK's, ended.
    CLOSED_CRITICAL_STREAM = 0x104;
    /// A frame where it must not be.
    FRAME_UNEXPECTED = 0x105;
    /// A frame of a wrong length or layout.
    FRAME_ERROR = 0x106;
    /// The peer asks for too much.
    EXCESSIVE_LOAD = 0x107;
    /// A stream or push id out of its bounds.
    ID_ERROR = 0x108;
    /// A forbidden, repeated or invalid setting.
    SETTINGS_ERROR = 0x109;
    /// The control stream did not begin with settings.
    MISSING_SETTINGS = 0x10a;
    /// The request was not looked at: it may be sent again.
    REQUEST_REJECTED = 0x10b;
    /// The request, or its answer, is no longer wanted.
    REQUEST_CANCELLED = 0x10c;
    /// The stream ended before its request was whole.
    REQUEST_INCOMPLETE = 0x10d;
    /// A malformed message.
    MESSAGE_ERROR = 0x10e;
    /// The connection behind a CONNECT failed.
    CONNECT_ERROR = 0x10f;
    /// To be asked for over an older version.
    VERSION_FALLBACK = 0x110;
    /// A datagram that is malformed, or for a request that has none.
    DATAGRAM_ERROR = 0x33;
    /// A field section that cannot be decoded.
    QPACK_DECOMPRESSION_FAILED = 0x200;
    /// A wrong instruction on the encoder stream.
    QPACK_ENCODER_STREAM_ERROR = 0x201;
    /// A wrong instruction on the decoder stream.
    QPACK_DECODER_STREAM_ERROR = 0x202;
    /// A WebTransport stream that came before its session, beyond what is buffered.
    WT_BUFFERED_STREAM_REJECTED = 0x3994_bd84;
    /// A WebTransport stream whose session has ended.
    WT_SESSION_GONE = 0x170d_7b68;
}

/// A broken rule: what ends, with which code, and a word for the peer's developer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The connection ends.
    Connection(Code, &'static str),
    /// That stream ends, the others go on.
    Stream(Code, &'static str),
    /// A request beyond a limit of its head: that stream is answered with this status.
    Answer(u16, &'static str),
}

/// A frame where it must not be.
pub(crate) const fn unexpected(why: &'static str) -> Fault {
    Fault::Connection(Code::FRAME_UNEXPECTED, why)
}

/// A malformed message.
pub(crate) const fn malformed(why: &'static str) -> Fault {
    Fault::Stream(Code::MESSAGE_ERROR, why)
}
