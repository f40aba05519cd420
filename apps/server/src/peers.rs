//! How each protocol's events become messages for apps, and back.

pub(crate) mod hello;
pub(crate) mod http;
pub(crate) mod quantum;
pub(crate) mod session;
pub(crate) mod websocket;
