//! The rules that a peer can break: each has a name for the counter, a sentence for the peer and a status.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// Which rule a peer broke.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// A line feed without a carriage return.
    BareLineFeed,
    /// A carriage return without a line feed.
    BareCarriageReturn,
    /// Not a request line.
    RequestLine,
    /// A version other than 1.0 and 1.1.
    Version,
    /// A target in no form of RFC 9112.
    Target,
    /// A target beyond `target_max`.
    TargetTooLong,
    /// A head beyond `head_max`.
    HeadTooLarge,
    /// More than [`crate::HEADERS_MAX`] fields.
    TooManyHeaders,
    /// A field name that is no token, a space before the colon, a folded line.
    HeaderName,
    /// A control character in a field value.
    HeaderValue,
    /// No `Host` and no `:authority`.
    HostMissing,
    /// Two `Host` fields.
    HostRepeated,
    /// A `Host` that is no host with an optional port.
    HostInvalid,
    /// A target or `:authority` that names another host than `Host`.
    HostMismatch,
    /// A `Content-Length` that is not only digits, or too many of them.
    LengthInvalid,
    /// Two `Content-Length` fields or values.
    LengthRepeated,
    /// `Content-Length` together with `Transfer-Encoding`.
    LengthWithEncoding,
    /// A `Transfer-Encoding` other than `chunked`.
    EncodingUnknown,
    /// `Transfer-Encoding` in HTTP/1.0.
    EncodingTooOld,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// A body beyond `body_max`.
    BodyTooLarge,
    /// A chunk's size, extension or end.
    Chunk,
    /// A trailer section that is too large, broken, or names a framing field.
    Trailer,
    /// A WebSocket upgrade without a proper key, with a body, or not by GET.
    Upgrade,
    /// A WebSocket version other than 13.
    UpgradeVersion,
    /// `CONNECT`: this is no proxy.
    Tunnel,
    /// A head that took longer than `head_secs`.
    SlowHead,
    /// A body that took longer than `body_secs`.
    SlowBody,
    /// Answers that nobody took for `stall_secs`.
    Stalled,
    /// Input that went on although the connection could not read.
    InputFlood,
    /// Bodies of one HTTP/2 connection beyond `bodies_max`.
    BodiesTooLarge,
    /// A request that HTTP/2 forbids, on one stream.
    Stream,
    /// HTTP/2 broken so that the connection ended.
    Protocol,
    /// Frames, resets or streams in numbers that only an attack has.
    Flood,
}

impl Rule {
    /// The name for a counter's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().0
    }

    /// The status that the peer gets; `None` closes without a word.
    #[must_use]
    pub fn status(self) -> Option<StatusCode> {
        StatusCode::from_u16(self.entry().1).ok()
    }

    /// The sentence for the peer.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.entry().2
    }

    /// The answer to send, where the rule has a status.
    pub(crate) fn response(self) -> Option<Response<Bytes>> {
        let mut response = Response::new(Bytes::from_static(self.reason().as_bytes()));
        *response.status_mut() = self.status()?;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self == Self::UpgradeVersion {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        Some(response)
    }

    /// Label, status (0: none), sentence.
    fn entry(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BareLineFeed => ("bare_line_feed", 400, "a line ends without a carriage return\n"),
            Self::BareCarriageReturn => ("bare_carriage_return", 400, "a carriage return stands alone\n"),
            Self::RequestLine => ("request_line", 400, "this is not a request line\n"),
            Self::Version => ("version", 505, "only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here\n"),
            Self::Target => ("target", 400, "the request target is invalid\n"),
            Self::TargetTooLong => ("target_too_long", 414, "the request target is too long\n"),
            Self::HeadTooLarge => ("head_too_large", 431, "the request head is too large\n"),
            Self::TooManyHeaders => ("too_many_headers", 431, "the request has too many header fields\n"),
            Self::HeaderName => ("header_name", 400, "a header name is invalid\n"),
            Self::HeaderValue => ("header_value", 400, "a header value is invalid\n"),
            Self::HostMissing => ("host_missing", 400, "the Host header is missing\n"),
            Self::HostRepeated => ("host_repeated", 400, "the Host header is repeated\n"),
            Self::HostInvalid => ("host_invalid", 400, "the host is invalid\n"),
            Self::HostMismatch => ("host_mismatch", 400, "the target names another host than the Host header\n"),
            Self::LengthInvalid => ("length_invalid", 400, "the Content-Length is invalid\n"),
            Self::LengthRepeated => ("length_repeated", 400, "the Content-Length is repeated\n"),
            Self::LengthWithEncoding => {
                ("length_with_encoding", 400, "Content-Length and Transfer-Encoding exclude each other\n")
            }
            Self::EncodingUnknown => ("encoding_unknown", 400, "only the transfer coding chunked is known\n"),
            Self::EncodingTooOld => ("encoding_too_old", 400, "HTTP/1.0 has no transfer codings\n"),
            Self::Expectation => ("expectation", 417, "only 100-continue can be expected\n"),
            Self::BodyTooLarge => ("body_too_large", 413, "the body is too large\n"),
            Self::Chunk => ("chunk", 400, "a chunk is malformed\n"),
            Self::Trailer => ("trailer", 400, "the trailer section is invalid\n"),
            Self::Upgrade => ("upgrade", 400, "the WebSocket upgrade is invalid\n"),
            Self::UpgradeVersion => ("upgrade_version", 426, "only WebSocket version 13 is spoken here\n"),
            Self::Tunnel => ("tunnel", 501, "this is not a proxy\n"),
            Self::SlowHead => ("slow_head", 408, "the request head took too long\n"),
            Self::SlowBody => ("slow_body", 408, "the request body took too long\n"),
            Self::Stalled => ("stalled", 0, "the reader stalled\n"),
            Self::InputFlood => ("input_flood", 0, "input beyond what can be read\n"),
            Self::BodiesTooLarge => ("bodies_too_large", 503, "too many bodies are on their way\n"),
            Self::Stream => ("stream", 400, "the request is malformed\n"),
            Self::Protocol => ("protocol", 0, "HTTP/2 was broken\n"),
            Self::Flood => ("flood", 0, "too many frames, resets or streams\n"),
        }
    }
}
