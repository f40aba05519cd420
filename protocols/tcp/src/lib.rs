//! The framed byte stream, and TLS for all TCP: sans-io.

pub mod frame;
pub mod tls;

/// The first bytes of a client that speaks the framed protocol on a port that speaks HTTP too.
pub const PREFACE: &[u8] = b"RINGSHARD/1\n";
