//! Connection ids: those that the peer may call this side by, and those that this side may call the peer by (RFC 9000,
//! section 5.1).

mod local;
mod remote;
#[cfg(test)]
mod tests;

pub(crate) use local::{LocalIds, NewId, make};
pub(crate) use remote::{REMOTE_IDS_MAX, RemoteIds};
