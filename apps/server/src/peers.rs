//! How each protocol's events become messages for apps, and back.

pub(crate) mod foreign;
pub(crate) mod hello;
pub(crate) mod http;
pub(crate) mod http3;
pub(crate) mod lanes;
pub(crate) mod quantum;
pub(crate) mod quic;
pub(crate) mod session;
pub(crate) mod websocket;
pub(crate) mod webtransport;
