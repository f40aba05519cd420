//! What an endpoint and its connections are told before they start. Every limit has a name here.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{Checked, Code, TransportError},
    guuid::Router,
    token::TokenKey,
};

/// Payload of the smallest datagram that a path must carry (RFC 9000, section 14).
pub const DATAGRAM_MIN: usize = 1200;

/// Payload of the largest datagram that is ever sent: Ethernet's 1,500 less IPv6 and UDP.
pub const DATAGRAM_MAX: usize = 1452;

/// Datagrams that leave in one send, at most: the kernel's UDP_MAX_SEGMENTS.
pub const TRAIN_MAX: usize = 64;

/// Bytes that leave in one send, at most.
pub const TRAIN_BYTES_MAX: usize = 65_000;

pub use crate::congestion::Algorithm;

pub use crate::fec::FecMode;

/// How one connection behaves, and what it allows its peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transport {
    /// Silence after which a connection is given up; the smaller one of both sides holds.
    pub idle_timeout: Duration,
    /// Silence after which a PING keeps the connection; `None`: nobody keeps it.
    pub keep_alive: Option<Duration>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Congestion control.
    pub algorithm: Algorithm,
    /// Forward error correction of what is sent.
    pub fec: FecMode,
    /// The round trip that is assumed before the first measurement.
    pub rtt_initial: Duration,
    /// Bytes that the peer may send on all streams beyond what was read.
    pub data_max: u64,
    /// Up to where that grows while it is used up within two round trips.
    pub data_window_max: u64,
    /// What [`Transport::data_max`] is for one stream.
    pub stream_data_max: u64,
    /// What [`Transport::data_window_max`] is for one stream.
    pub stream_window_max: u64,
    /// Streams in both directions that the peer may have open.
    pub streams_bidirectional_max: u64,
    /// Streams in one direction that the peer may have open.
    pub streams_unidirectional_max: u64,
    /// Bytes of all streams that may wait to be sent or acknowledged before `write` takes no more.
    pub send_bytes_max: u64,
    /// Bytes of the largest message that the peer may send.
    pub message_max: u64,
    /// Bytes of the peer's messages that may be unresolved: fragments, and ordered ones that wait for an earlier one.
    pub message_bytes_max: u64,
    /// Bytes of unreliable datagrams that may wait in each direction; the oldest give way.
    pub datagram_bytes_max: usize,
    /// Symbols kept for recovery.
    pub symbols_max: u64,
    /// Bytes of symbols kept for recovery.
    pub symbol_bytes_max: u64,
    /// Payload of the largest datagram that is tried; [`DATAGRAM_MIN`] switches path MTU discovery off.
    pub udp_payload_max: usize,
    /// Whether a lost packet's data is sent again. Off only to prove what forward error correction does alone.
    pub retransmit: bool,
    /// Number of the first 1-RTT packet, and of the first symbol: for simulations, near where they wrap.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub first_number: u64,
    /// Whether to record qlog events.
    pub qlog: bool,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            keep_alive: None,
            handshake_timeout: Duration::from_secs(10),
            algorithm: Algorithm::Bbr,
            fec: FecMode::Adaptive,
            rtt_initial: Duration::from_millis(100),
            data_max: 1 << 20,
            data_window_max: 16 << 20,
            stream_data_max: 512 << 10,
            stream_window_max: 8 << 20,
            streams_bidirectional_max: 100,
            streams_unidirectional_max: 100,
            send_bytes_max: 2 << 20,
            message_max: 64 * 1024,
            message_bytes_max: 256 * 1024,
            datagram_bytes_max: 64 * 1024,
            symbols_max: 256,
            symbol_bytes_max: 256 * 1024,
            udp_payload_max: DATAGRAM_MAX,
            retransmit: true,
            #[cfg(feature = "simulation")]
            first_number: 0,
            qlog: false,
        }
    }
}

impl Transport {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The field that is to blame.
    pub fn check(&self) -> Checked<()> {
        let wrong = |reason| Err(TransportError::new(Code::Internal, reason));
        match self.fec {
            FecMode::Fixed { k, r } if !(1..=32).contains(&k) || !(1..=16).contains(&r) => {
                return wrong("fec: k from 1 to 32, r from 1 to 16");
            }
            FecMode::Adaptive | FecMode::Off | FecMode::Fixed { .. } => {}
        }
        if !(DATAGRAM_MIN..=DATAGRAM_MAX).contains(&self.udp_payload_max) {
            return wrong("udp_payload_max: from 1,200 to 1,452");
        }
        if self.idle_timeout < Duration::from_millis(100) {
            return wrong("idle_timeout: at least 100 ms");
        }
        let bytes = [
            self.data_max.max(self.data_window_max),
            self.stream_data_max.max(self.stream_window_max),
            self.send_bytes_max,
            self.message_max.max(self.message_bytes_max),
            self.symbols_max.max(self.symbol_bytes_max),
            self.datagram_bytes_max as u64,
        ];
        if bytes.into_iter().any(|bytes| bytes > BYTES_MAX) {
            return wrong("windows and sizes: at most 1 TiB");
        }
        if self.streams_bidirectional_max.max(self.streams_unidirectional_max) > STREAMS_MAX {
            return wrong("streams: at most 2^32 of a kind");
        }
        Ok(())
    }
}

/// Bytes of a window or a size, at most: far from where sums and the wire's numbers end.
const BYTES_MAX: u64 = 1 << 40;

/// Streams of a kind that may be open, at most.
const STREAMS_MAX: u64 = 1 << 32;

/// What an endpoint needs to know.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Which ids are this endpoint's.
    pub router: Router,
    /// Makes and opens address tokens; the same for all shards.
    pub token: TokenKey,
    /// Makes stateless reset tokens; the same for all shards.
    pub reset_key: [u8; 32],
    /// Handshakes that may be open; further ones are dropped.
    pub half_open_max: usize,
    /// Open handshakes from which on clients must prove their address first.
    pub retry_above: usize,
    /// Connections that may be open; further ones are refused.
    pub connections_max: usize,
    /// How connections behave.
    pub transport: Arc<Transport>,
}

impl EndpointConfig {
    /// For a client, or a server of one shard: `secret` makes its tokens.
    #[must_use]
    pub fn single(secret: [u8; 32], transport: Transport) -> Self {
        Self {
            router: Router::single(),
            token: TokenKey::new(secret, None),
            reset_key: secret,
            half_open_max: 1024,
            retry_above: 256,
            connections_max: 1 << 20,
            transport: Arc::new(transport),
        }
    }
}
