//! How quiche keeps what is to be sent: shared bytes, so that one message to many connections is one piece of memory.

use bytes::Bytes;

/// Makes quiche's buffers.
#[derive(Clone, Copy, Default, Debug)]
pub struct Shared;

impl quiche::BufFactory for Shared {
    type Buf = Bytes;
    type DgramBuf = Bytes;

    fn buf_from_slice(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }

    fn dgram_buf_from_slice(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }
}
