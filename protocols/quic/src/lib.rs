//! QUIC on quiche behind the verbs of the other cores: no socket and no thread; datagrams and time in, datagrams, events
//! and a deadline out.

pub mod h3;
pub mod webtransport;
