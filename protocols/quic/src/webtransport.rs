//! WebTransport over HTTP/3 (draft-ietf-webtrans-http3), part of [`crate::h3::Connection`]: sessions, their streams and
//! datagrams.
//!
//! A client asks by an Extended CONNECT; the server's app gets [`crate::h3::Event::SessionRequest`] if the origin is
//! allowed and the session is not in 0-RTT, and answers. The stream of the CONNECT names the session. Both sides then
//! open streams and send datagrams that begin with that name. What comes before the session is accepted waits, within
//! `early_*` of [`crate::h3::Limits`].
//!
//! All four setting ids of the drafts are sent, so that Chromium, Firefox and Safari find theirs. The flow control of
//! sessions that the last drafts add is not offered, nor are resets with a reliable part (RESET_STREAM_AT), that quiche
//! does not have: clients that insist on them refuse the server.

pub(crate) mod capsule;
pub mod code;
mod early;
mod origin;
mod receive;
mod send;
mod session;

pub use capsule::REASON_BYTES_MAX;
pub use origin::OriginRule;

pub(crate) use early::Early;
pub(crate) use session::Session;

/// Whether `:protocol` asks for a session: by the name of all drafts up to 14, or that of 15.
pub(crate) fn is_protocol(name: &str) -> bool {
    matches!(name, "webtransport" | "webtransport-h3")
}
