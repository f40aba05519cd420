//! The binary codec: a 16-byte header that routing, credit and fan-out read, and a protobuf body that only its reader does.

mod decode;
mod encode;
mod field;
mod header;
mod server;

pub use decode::decode_client;
pub use encode::{encode_client, encode_server};
pub use header::{Flags, HEADER_LEN, Header, Kind, OFFSET_LEN};
pub use server::decode_server;
