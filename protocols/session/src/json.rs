//! The JSON codec: one object per message, whose `kind` says which.

mod decode;
mod encode;
mod field;
mod scan;
mod server;

pub(crate) use decode::HELLO_SUBS_MAX;
pub use decode::decode_client;
pub use encode::{encode_client, encode_server};
pub use scan::{DEPTH_MAX, check_object};
pub use server::decode_server;
