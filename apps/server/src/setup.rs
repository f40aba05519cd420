//! What all shards of a run share, read-only: the configuration, the keys, TLS, and the counters of each.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use engine::{Io, Listener, ShardId};
use quantum::{Algorithm, Endpoint, EndpointConfig, FecMode, Router, Transport, token::TokenKey};
use rand::Rng;
use rustls::ServerConfig;
use session::Keys;
use tcp::tls::{Tls, TlsError};
use topic::snapshot::Snapshot;

use crate::{
    certificate::Certificates,
    config::{Config, Congestion, Fec},
    lane::BULK_MAX,
    mail::Mail,
    metrics::{ServerStats, Stats, shards_json},
};

/// What a shard needs of the process.
pub struct Setup {
    /// The effective configuration.
    pub config: Config,
    /// What signs and checks tokens and tickets.
    pub keys: Keys,
    /// The counters of each shard.
    pub stats: Vec<Arc<ServerStats>>,
    /// All figures, once the shards run.
    pub figures: OnceLock<Arc<Stats>>,
    /// Keeps the hashes of names from whoever chooses names.
    pub hash_seed: u64,
    /// TLS, for the listeners that have it.
    pub tls: Option<(Listener, Arc<ServerConfig>)>,
    /// Quantum, if it is spoken.
    pub quantum: Option<Quantum>,
    /// The certificate in use.
    pub certificates: Option<Arc<Certificates>>,
    /// The topics of the run before, until every shard has taken up its own.
    pub snapshot: ArcSwapOption<Snapshot>,
}

/// Bytes of ephemeral messages that wait on one connection, in each direction. Newer ones replace them.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;

/// What the Quantum endpoints of all shards have in common. The keys are made anew by every run: after a restart a token
/// or a stateless reset of the run before is nothing, and its clients connect again.
pub struct Quantum {
    /// What routing words are multiplied by, here and in the kernel's filter.
    pub multiplier: u32,
    /// What seals the tokens of Retry and of later visits.
    pub token: TokenKey,
    /// What makes the tokens of stateless resets.
    pub reset_key: [u8; 32],
    /// TLS.
    pub tls: quantum::ServerConfig,
}

impl Quantum {
    /// New keys for a run.
    #[must_use]
    pub fn new(multiplier: u32, tls: quantum::ServerConfig, rng: &mut impl Rng) -> Self {
        Self { multiplier, token: TokenKey::new(rng.random(), None), reset_key: rng.random(), tls }
    }
}

impl Setup {
    /// The Quantum endpoint of the shard that `io` belongs to.
    pub(crate) fn endpoint(&self, io: &mut Io<Mail>) -> Option<Endpoint> {
        let quantum = self.quantum.as_ref()?;
        let (limits, ShardId(shard)) = (&self.config.quantum, io.shard());
        let config = EndpointConfig {
            router: Router::new(quantum.multiplier, io.shards(), shard),
            token: quantum.token.clone(),
            reset_key: quantum.reset_key,
            half_open_max: limits.half_open_max,
            retry_above: limits.retry_above,
            connections_max: limits.connections_max,
            transport: Arc::new(self.transport()),
        };
        Some(Endpoint::new(config, Some(quantum.tls.clone()), io.rng().random()))
    }

    fn transport(&self) -> Transport {
        let (limits, quantum) = (&self.config.limits, &self.config.quantum);
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        Transport {
            idle_timeout: quantum.idle_secs,
            // The session has pings of its own.
            keep_alive: None,
            algorithm: match quantum.congestion {
                Congestion::Bbr => Algorithm::Bbr,
                Congestion::Cubic => Algorithm::Cubic,
            },
            fec: match quantum.fec {
                Fec::Adaptive => FecMode::Adaptive,
                Fec::Off => FecMode::Off,
            },
            // A stranger's window holds the largest message. It grows for whoever fills it and is read.
            stream_data_max: bytes(limits.frame_bytes),
            stream_window_max: bytes(limits.frame_bytes.saturating_mul(16)),
            data_max: bytes(limits.frame_bytes.saturating_mul(2)),
            data_window_max: bytes(limits.frame_bytes.saturating_mul(32)),
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            streams_bidirectional_max: 1,
            streams_unidirectional_max: BULK_MAX as u64,
            // Beside what is queued here may be as much on its way: so much fits into a round trip.
            message_max: 0,
            send_bytes_max: bytes(limits.queue_hard_bytes.saturating_mul(2)),
            ..Transport::default()
        }
    }

    /// TLS for a connection that came in by `listener`, if that one has it. A failure is never an open connection.
    pub(crate) fn tls_for(&self, listener: Listener) -> Result<Option<Box<Tls>>, TlsError> {
        match &self.tls {
            Some((secure, config)) if *secure == listener => Ok(Some(Box::new(Tls::server(Arc::clone(config))?))),
            Some(_) | None => Ok(None),
        }
    }

    pub(crate) fn stats(&self, shard: engine::ShardId) -> Arc<ServerStats> {
        Arc::clone(&self.stats[shard.index()])
    }

    /// The document of `/api/v1/shards`.
    pub(crate) fn shards_json(&self, wall_ms: u64) -> String {
        self.figures.get().map_or_else(|| "{}".to_owned(), |stats| shards_json(stats, wall_ms))
    }

    pub(crate) fn cert_hash(&self) -> Option<String> {
        self.certificates.as_ref().map(|certificates| certificates.about().sha256)
    }

    pub(crate) fn http_limits(&self) -> ringshard_http::Limits {
        let limits = &self.config.limits;
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let secs = |time: std::time::Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        ringshard_http::Limits {
            target_max: bytes(limits.http_target_bytes),
            head_max: bytes(limits.http_head_bytes),
            body_max: bytes(limits.http_body_bytes),
            head_secs: secs(limits.http_head_secs),
            idle_secs: secs(limits.http_idle_secs),
            ..ringshard_http::Limits::default()
        }
    }

    pub(crate) fn topic_limits(&self) -> topic::Limits {
        let limits = &self.config.limits;
        topic::Limits {
            topics_max: limits.topics_max,
            subs_max: limits.subs_per_session,
            history_records_max: limits.history_messages,
            history_bytes_max: limits.history_bytes,
            ..topic::Limits::default()
        }
    }

    pub(crate) fn socket_limits(&self) -> websocket::Limits {
        let bytes = self.config.limits.frame_bytes;
        websocket::Limits { message_max: bytes, frame_max: bytes }
    }

    pub(crate) fn session_limits(&self) -> session::Limits {
        let limits = &self.config.limits;
        session::Limits {
            hello: limits.hello_secs,
            hello_bytes: limits.hello_bytes,
            hello_frames: limits.hello_frames,
            idle: limits.idle_secs,
            ping: limits.ping_secs,
            messages_per_sec: limits.messages_per_sec,
            messages_burst: limits.messages_burst,
            requests_inflight: limits.requests_inflight,
            subs: limits.subs_per_session,
        }
    }
}
