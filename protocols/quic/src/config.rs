//! What an endpoint and its connections are told before they start. Every limit has a name here.

use std::{sync::Arc, time::Duration};

use crate::{
    id::Router,
    packet::INITIAL_MIN,
    token::{ResetKey, TokenKey},
};

/// Payload of the smallest datagram that a path must carry (RFC 9000, section 14).
pub const DATAGRAM_MIN: usize = INITIAL_MIN;

/// Payload of the largest datagram that is ever sent: Ethernet's 1,500 less IPv6 and UDP.
pub const DATAGRAM_MAX: usize = 1452;

/// Datagrams that leave in one send, at most: the kernel's UDP_MAX_SEGMENTS.
pub const TRAIN_MAX: usize = 64;

/// Bytes that leave in one send, at most.
pub const TRAIN_BYTES_MAX: usize = 65_000;

const _: () = assert!(TRAIN_BYTES_MAX / DATAGRAM_MAX >= 44, "a train of full datagrams is worth a send");

/// Congestion control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// RFC 9438. quiche does not pace it: a train has up to quiche's send quantum.
    Cubic,
    /// BBR version 2, paced.
    Bbr2,
    /// RFC 9002's own.
    Reno,
}

/// How one connection behaves, and what it allows its peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transport {
    /// Silence after which a connection is given up; the smaller one of both sides holds.
    pub idle_timeout: Duration,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Congestion control.
    pub algorithm: Algorithm,
    /// The round trip that is assumed before the first measurement.
    pub rtt_initial: Duration,
    /// Bytes that the peer may send on all streams beyond what was read.
    pub data_max: u64,
    /// Up to where that grows while it is used up fast.
    pub data_window_max: u64,
    /// What [`Transport::data_max`] is for one stream.
    pub stream_data_max: u64,
    /// What [`Transport::data_window_max`] is for one stream.
    pub stream_window_max: u64,
    /// Streams in both directions that the peer may have open.
    pub streams_bidirectional_max: u64,
    /// Streams in one direction that the peer may have open.
    pub streams_unidirectional_max: u64,
    /// Datagrams that may wait in each direction; 0: the peer may not send any. Arriving ones push out the oldest.
    pub datagrams_max: usize,
    /// Ids that either side may have in use, and one more than the addresses that a peer may move to: quiche 0.30 keeps the
    /// ways of before, and hears nothing on one more.
    pub ids_max: u64,
    /// Payload of the largest datagram that is tried; [`DATAGRAM_MIN`] switches path MTU discovery off.
    pub udp_payload_max: usize,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            algorithm: Algorithm::Cubic,
            rtt_initial: Duration::from_millis(100),
            data_max: 1 << 20,
            data_window_max: 16 << 20,
            stream_data_max: 512 << 10,
            stream_window_max: 8 << 20,
            streams_bidirectional_max: 100,
            streams_unidirectional_max: 100,
            datagrams_max: 64,
            ids_max: 8,
            udp_payload_max: DATAGRAM_MAX,
        }
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// A limit that cannot work.
    #[error("{0}")]
    Limit(&'static str),
    /// A certificate or key that cannot be used.
    #[error("the certificate or its key cannot be used")]
    Certificate,
    /// A protocol name that is empty or above 255 bytes, or none at all.
    #[error("protocol names have 1 to 255 bytes, and there must be one")]
    Alpn,
    /// TLS refused.
    #[error("the TLS configuration cannot be used")]
    Tls,
}

impl Transport {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// What is to blame.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what| Err(ConfigError::Limit(what));
        if !(DATAGRAM_MIN..=DATAGRAM_MAX).contains(&self.udp_payload_max) {
            return wrong("udp_payload_max: from 1,200 to 1,452");
        }
        if self.idle_timeout < Duration::from_millis(100) || self.handshake_timeout < Duration::from_millis(100) {
            return wrong("idle_timeout, handshake_timeout: at least 100 ms");
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&self.rtt_initial) {
            return wrong("rtt_initial: from 1 ms to 10 s");
        }
        if !(2..=8).contains(&self.ids_max) {
            return wrong("ids_max: from 2 (RFC 9000, section 18.2) to 8");
        }
        let windows = [self.data_max, self.data_window_max, self.stream_data_max, self.stream_window_max];
        if windows.into_iter().any(|bytes| bytes > BYTES_MAX) {
            return wrong("windows: at most 1 TiB");
        }
        if self.data_max.max(self.stream_data_max) > FIRST_WINDOW_MAX {
            return wrong("data_max, stream_data_max: below 1 GiB");
        }
        if self.data_window_max < self.data_max || self.stream_window_max < self.stream_data_max {
            return wrong("windows: the largest one is not below the first one");
        }
        if self.streams_bidirectional_max.max(self.streams_unidirectional_max) > STREAMS_MAX {
            return wrong("streams: below 2^30 of a kind");
        }
        if self.datagrams_max > DATAGRAMS_MAX {
            return wrong("datagrams_max: at most 4,096");
        }
        Ok(())
    }

    /// How many streams the peer may have open, by direction.
    pub(crate) fn streams_max(&self) -> [u64; 2] {
        [self.streams_bidirectional_max, self.streams_unidirectional_max]
    }
}

/// Bytes of a window, at most: far from where sums and the wire's numbers end.
const BYTES_MAX: u64 = 1 << 40;

/// Bytes of a first window, at most. quiche has 128 bytes for all transport parameters; with numbers of 4 bytes they fit.
const FIRST_WINDOW_MAX: u64 = (1 << 30) - 1;

/// Streams of a kind that may be open, at most.
const STREAMS_MAX: u64 = FIRST_WINDOW_MAX;

/// Datagrams that may wait, at most: 6 MiB of full ones.
const DATAGRAMS_MAX: usize = 4096;

/// What an endpoint needs to know.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Which ids are this endpoint's.
    pub router: Router,
    /// Makes and opens Retry tokens; the same for all shards.
    pub token: TokenKey,
    /// Makes stateless reset tokens; the same for all shards.
    pub reset: ResetKey,
    /// Handshakes that may be open; further ones are dropped.
    pub half_open_max: usize,
    /// Open handshakes from which on clients must prove their address first.
    pub retry_above: usize,
    /// Connections that may be open; further ones are refused.
    pub connections_max: usize,
    /// Stateless resets per second, at most.
    pub resets_per_s: u32,
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
            reset: ResetKey::new(&secret),
            half_open_max: 1024,
            retry_above: 256,
            connections_max: 1 << 20,
            resets_per_s: 1000,
            transport: Arc::new(transport),
        }
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// What is to blame.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what| Err(ConfigError::Limit(what));
        if self.half_open_max == 0 || self.connections_max == 0 {
            return wrong("half_open_max, connections_max: at least 1");
        }
        if self.half_open_max > self.connections_max {
            return wrong("half_open_max: not above connections_max");
        }
        self.transport.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_cannot_work_are_named() {
        let fine = || EndpointConfig::single([0; 32], Transport::default());
        assert_eq!(fine().check(), Ok(()));
        let wrong: [fn(&mut Transport); 7] = [
            |t| t.udp_payload_max = 1_500,
            |t| t.idle_timeout = Duration::ZERO,
            |t| t.rtt_initial = Duration::ZERO,
            |t| t.ids_max = 1,
            |t| t.data_max = 1 << 41,
            |t| t.streams_unidirectional_max = 1 << 33,
            |t| t.datagrams_max = 10_000,
        ];
        for change in wrong {
            let mut transport = Transport::default();
            change(&mut transport);
            let config = EndpointConfig::single([0; 32], transport);
            assert!(matches!(config.check(), Err(ConfigError::Limit(_))));
        }
        let config = EndpointConfig { half_open_max: 10, connections_max: 9, ..fine() };
        assert!(matches!(config.check(), Err(ConfigError::Limit(_))));
    }
}
